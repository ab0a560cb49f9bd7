// What can be asked of the engine, by name: the words of the policy file and of the audit log.
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>

namespace caisson::policy {

/// How much a verb does to the host, least first.
enum class Level : std::uint8_t {
  see,         ///< changes nothing and tells what an onlooker may know
  operate,     ///< works on what is there, or reads what is inside it
  administer,  ///< makes and removes
};

enum class Verb : std::uint8_t {
  container_list,
  container_inspect,
  container_logs,
  container_stats,
  container_top,
  container_changes,
  container_learn,
  container_wait,
  container_start,
  container_stop,
  container_restart,
  container_kill,
  container_pause,
  container_unpause,
  container_rename,
  container_update,
  container_attach,
  container_resize,
  container_exec,
  container_export,
  container_stat_path,
  container_copy_from,
  container_copy_to,
  container_unlink,
  container_create,
  container_remove,
  container_commit,
  container_prune,
  image_list,
  image_inspect,
  image_save,
  image_search,
  image_lookup,
  image_login,
  image_verify,
  image_pull,
  image_push,
  image_import,
  image_load,
  image_bootstrap,
  image_tag,
  image_sign,
  image_remove,
  image_prune,
  volume_list,
  volume_inspect,
  volume_create,
  volume_remove,
  volume_prune,
  network_list,
  network_inspect,
  network_connect,
  network_disconnect,
  network_create,
  network_remove,
  network_prune,
  build_list,
  build_inspect,
  build_cache_list,
  build_run,
  build_log,
  build_remove,
  build_prune,
  system_info,
  system_events,
  system_df,
  system_reload,
};
inline constexpr std::size_t verb_count = static_cast<std::size_t>(Verb::system_reload) + 1;

struct VerbInfo {
  Verb verb;
  std::string_view name;  ///< "container.start": in files and logs
  std::string_view says;  ///< "start": in front of an object's name
  Level level;
  bool is_audited;        ///< leaves a line in the audit log
};
const VerbInfo& describe(Verb verb);
/// In the order of the enumeration.
std::span<const VerbInfo> all_verbs();

using VerbSet = std::bitset<verb_count>;
/// Every verb of this level and of those below it.
VerbSet verbs_up_to(Level level);
/// By a name, "container.*", "*", or a level's word ("see", "operate", "administer": what stands at it and below). None: there is no such verb.
VerbSet verbs_of(std::string_view word);

}  // namespace caisson::policy
