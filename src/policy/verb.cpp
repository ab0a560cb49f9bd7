// The table of verbs.
#include "policy/verb.hpp"

#include <array>

namespace caisson::policy {

namespace {

using enum Verb;
using enum Level;

constexpr std::array table{
    VerbInfo{container_list, "container.list", "list containers", see, false},
    VerbInfo{container_inspect, "container.inspect", "inspect", see, false},
    VerbInfo{container_logs, "container.logs", "logs", see, false},
    VerbInfo{container_stats, "container.stats", "stats", see, false},
    VerbInfo{container_top, "container.top", "top", see, false},
    VerbInfo{container_changes, "container.changes", "diff", see, false},
    VerbInfo{container_learn, "container.learn", "learn", operate, true},
    VerbInfo{container_wait, "container.wait", "wait", see, false},
    VerbInfo{container_start, "container.start", "start", operate, true},
    VerbInfo{container_stop, "container.stop", "stop", operate, true},
    VerbInfo{container_restart, "container.restart", "restart", operate, true},
    VerbInfo{container_kill, "container.kill", "kill", operate, true},
    VerbInfo{container_pause, "container.pause", "pause", operate, true},
    VerbInfo{container_unpause, "container.unpause", "unpause", operate, true},
    VerbInfo{container_rename, "container.rename", "rename", operate, true},
    VerbInfo{container_update, "container.update", "update", operate, true},
    VerbInfo{container_attach, "container.attach", "attach", operate, true},
    VerbInfo{container_resize, "container.resize", "resize", operate, false},
    VerbInfo{container_exec, "container.exec", "exec", operate, true},
    VerbInfo{container_export, "container.export", "export", operate, true},
    VerbInfo{container_stat_path, "container.stat-path", "stat a path of", operate, false},
    VerbInfo{container_copy_from, "container.copy-from", "copy from", operate, true},
    VerbInfo{container_copy_to, "container.copy-to", "copy to", operate, true},
    VerbInfo{container_unlink, "container.unlink", "remove link", operate, true},
    VerbInfo{container_create, "container.create", "create", administer, true},
    VerbInfo{container_remove, "container.remove", "remove", administer, true},
    VerbInfo{container_commit, "container.commit", "commit", administer, true},
    VerbInfo{container_prune, "container.prune", "prune containers", administer, true},
    VerbInfo{image_list, "image.list", "list images", see, false},
    VerbInfo{image_inspect, "image.inspect", "inspect image", see, false},
    VerbInfo{image_save, "image.save", "save images", operate, true},
    VerbInfo{image_search, "image.search", "search images", operate, false},
    VerbInfo{image_lookup, "image.lookup", "inspect image in its registry", operate, false},
    VerbInfo{image_login, "image.login", "login", operate, true},
    VerbInfo{image_verify, "image.verify", "verify image", operate, false},
    VerbInfo{image_pull, "image.pull", "pull image", administer, true},
    VerbInfo{image_push, "image.push", "push image", administer, true},
    VerbInfo{image_import, "image.import", "import image", administer, true},
    VerbInfo{image_load, "image.load", "load images", administer, true},
    VerbInfo{image_bootstrap, "image.bootstrap", "bootstrap image", administer, true},
    VerbInfo{image_tag, "image.tag", "tag image", administer, true},
    VerbInfo{image_sign, "image.sign", "sign image", administer, true},
    VerbInfo{image_remove, "image.remove", "remove image", administer, true},
    VerbInfo{image_prune, "image.prune", "prune images", administer, true},
    VerbInfo{volume_list, "volume.list", "list volumes", see, false},
    VerbInfo{volume_inspect, "volume.inspect", "inspect volume", see, false},
    VerbInfo{volume_create, "volume.create", "create volume", administer, true},
    VerbInfo{volume_remove, "volume.remove", "remove volume", administer, true},
    VerbInfo{volume_prune, "volume.prune", "prune volumes", administer, true},
    VerbInfo{network_list, "network.list", "list networks", see, false},
    VerbInfo{network_inspect, "network.inspect", "inspect network", see, false},
    VerbInfo{network_connect, "network.connect", "connect", operate, true},
    VerbInfo{network_disconnect, "network.disconnect", "disconnect", operate, true},
    VerbInfo{network_create, "network.create", "create network", administer, true},
    VerbInfo{network_remove, "network.remove", "remove network", administer, true},
    VerbInfo{network_prune, "network.prune", "prune networks", administer, true},
    VerbInfo{build_list, "build.list", "list builds", see, false},
    VerbInfo{build_inspect, "build.inspect", "inspect a build", see, false},
    VerbInfo{build_cache_list, "build.cache-list", "list the build cache", see, false},
    VerbInfo{build_run, "build.run", "build", administer, true},
    VerbInfo{build_log, "build.log", "read a build's output", administer, false},
    VerbInfo{build_remove, "build.remove", "remove a build from the history", administer, true},
    VerbInfo{build_prune, "build.prune", "prune the build cache", administer, true},
    VerbInfo{system_info, "system.info", "info", see, false},
    VerbInfo{system_events, "system.events", "events", see, false},
    VerbInfo{system_df, "system.df", "disk usage", see, false},
    VerbInfo{system_reload, "system.reload", "reload", administer, true},
};

consteval bool is_in_order() {
  for (std::size_t i = 0; i < table.size(); ++i)
    if (static_cast<std::size_t>(table[i].verb) != i) return false;
  return table.size() == verb_count;
}
static_assert(is_in_order(), "a verb has no line, or stands in the wrong place");

}  // namespace

const VerbInfo& describe(Verb verb) { return table[static_cast<std::size_t>(verb)]; }
std::span<const VerbInfo> all_verbs() { return table; }

VerbSet verbs_up_to(Level level) {
  VerbSet out;
  for (const auto& info : table) out[static_cast<std::size_t>(info.verb)] = info.level <= level;
  return out;
}

VerbSet verbs_of(std::string_view word) {
  if (word == "see") return verbs_up_to(see);
  if (word == "operate") return verbs_up_to(operate);
  if (word == "administer" || word == "*") return verbs_up_to(administer);
  VerbSet out;
  const bool is_family = word.ends_with(".*");
  if (is_family) word.remove_suffix(1);
  for (const auto& info : table) out[static_cast<std::size_t>(info.verb)] = is_family ? info.name.starts_with(word) : info.name == word;
  return out;
}

}  // namespace caisson::policy
