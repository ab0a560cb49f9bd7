// The cache's files: read with suspicion, written atomically, thrown away by age.
#include "runtime/seccomp_cache.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/json_text.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"
#include "runtime/plan.hpp"

namespace caisson::runtime {

namespace {

constexpr std::size_t largest_entry_bytes = std::size_t{1} << 20U;
constexpr std::size_t most_entries = 64;
constexpr std::array<std::string_view, 2> seccomp_path{"linux", "seccomp"};

/// What stands first in a file; then `text_size` bytes of profile and `program_size` bytes of encoded program, and nothing else.
struct Head {
  std::array<char, 8> magic{};
  std::uint64_t maker = 0;     ///< hash of everything but the profile that a program depends on
  std::uint64_t checksum = 0;  ///< of what follows the head
  std::uint32_t text_size = 0;
  std::uint32_t program_size = 0;
};
constexpr std::array<char, 8> our_magic{'c', 's', 's', 'e', 'c', 'c', 'm', 'p'};

/// Eight bytes at a time, multiplied and folded. Finds damage and names files; it does not withstand anybody who looks for
/// collisions, and need not: who may write here could write the program itself.
std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) {
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15U;  // 2^64 divided by the golden ratio
  std::uint64_t state = seed ^ (bytes.size() * odd);
  auto mix = [&state](std::uint64_t word) {
    state = (state ^ word) * odd;
    state ^= state >> 29U;
  };
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    mix(word);
  }
  std::uint64_t last = 0;
  if (!bytes.empty()) std::memcpy(&last, bytes.data(), bytes.size());
  mix(last);
  return state ^ (state >> 32U);
}

std::uint64_t maker_hash() {
  constexpr std::string_view version = CAISSON_VERSION;
  const auto arch = static_cast<std::uint64_t>(linux::native_architecture());
  return hash_of(version, std::uint64_t{linux::seccomp_compiler_version} << 8U | arch);
}

std::string entry_name(std::string_view profile_text) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::uint64_t hash = hash_of(profile_text, maker_hash());
  std::string name(16, '0');
  for (auto digit = name.rbegin(); digit != name.rend(); ++digit, hash >>= 4U) *digit = digits[hash & 15U];
  return name;
}

bool is_ours_alone(const linux::FileStatus& status, mode_t type) {
  constexpr mode_t others_may_write = 0022;
  return (status.st_mode & S_IFMT) == type && status.st_uid == linux::geteuid() && (status.st_mode & others_may_write) == 0;
}

/// The folder when it can be trusted. An empty descriptor: there is none, or it is not ours alone.
UniqueFd open_folder(const std::string& path) {
  auto folder = linux::open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!folder) return {};
  auto status = linux::fstat(folder->get());
  return status && is_ours_alone(*status, S_IFDIR) ? std::move(folder).value() : UniqueFd();
}

/// The whole file when it can be trusted and is no larger than an entry may be; else empty.
std::string read_entry(int folder, const std::string& name) {
  auto file = linux::openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file) return {};
  auto status = linux::fstat(file->get());
  if (!status || !is_ours_alone(*status, S_IFREG)) return {};
  const auto size = static_cast<std::size_t>(status->st_size);
  if (size < sizeof(Head) || size > largest_entry_bytes) return {};
  std::string bytes(size, '\0');
  auto got = linux::read(file->get(), bytes);
  return got && *got == size ? bytes : std::string();
}

std::optional<linux::SeccompProgram> program_in(std::string_view entry, std::string_view profile_text) {
  Head head;
  if (entry.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, entry.data(), sizeof head);
  entry.remove_prefix(sizeof head);
  if (head.magic != our_magic || head.maker != maker_hash()) return std::nullopt;
  if (head.text_size != profile_text.size() || entry.size() != std::size_t{head.text_size} + head.program_size) return std::nullopt;
  if (entry.substr(0, head.text_size) != profile_text || head.checksum != hash_of(entry, head.maker)) return std::nullopt;
  auto program = decode<linux::SeccompProgram>(entry.substr(head.text_size), "seccomp program");
  if (!program || program->needs_listener || !linux::is_seccomp_program(*program)) return std::nullopt;
  return std::move(program).value();
}

std::string make_entry(std::string_view profile_text, const linux::SeccompProgram& program) {
  const std::string body = concat(profile_text, encode(program));
  Head head;
  head.magic = our_magic;
  head.maker = maker_hash();
  head.checksum = hash_of(body, head.maker);
  head.text_size = static_cast<std::uint32_t>(profile_text.size());
  head.program_size = static_cast<std::uint32_t>(body.size() - profile_text.size());
  std::string out(sizeof head, '\0');
  std::memcpy(out.data(), &head, sizeof head);
  return out + body;
}

/// Down to half of what may be there, so that not every later start has to clear up. By the time of last use where the file system
/// keeps it (relatime is enough), else by the time of writing.
void drop_oldest(const std::string& path, int folder) {
  auto entries = linux::list_dir(path);
  if (!entries || entries->size() <= most_entries) return;
  std::vector<std::pair<std::int64_t, std::string>> by_age;
  for (const auto& entry : *entries)
    if (auto status = linux::fstatat(folder, entry.name, AT_SYMLINK_NOFOLLOW))
      by_age.emplace_back(std::max(status->st_atim.tv_sec, status->st_mtim.tv_sec), entry.name);
  std::sort(by_age.begin(), by_age.end());
  for (std::size_t i = 0; i + most_entries / 2 < by_age.size(); ++i) ignore(linux::unlinkat(folder, by_age[i].second));
}

/// The text of linux.seccomp; nothing when there is none, or when it is written so that only a parser can tell.
std::optional<std::string_view> profile_text_of(std::string_view config) {
  auto found = find_member_text(config, seccomp_path);
  return found && found->starts_with('{') ? found : std::nullopt;
}

/// Annotations of crun's that change what a profile means (run.oci.seccomp_fail_unknown_syscall and others) need the profile itself.
bool has_seccomp_annotation(const Spec& spec) {
  return std::any_of(spec.annotations.begin(), spec.annotations.end(),
                     [](const auto& entry) { return entry.first.starts_with("run.oci.seccomp"); });
}

/// The configuration with `part` of it replaced by null.
std::string without(std::string_view config, std::string_view part) {
  const auto begin = static_cast<std::size_t>(part.data() - config.data());
  return concat(config.substr(0, begin), "null", config.substr(begin + part.size()));
}

}  // namespace

std::optional<linux::SeccompProgram> SeccompCache::find(std::string_view profile_text) const {
  const UniqueFd folder = open_folder(folder_);
  if (!folder) return std::nullopt;
  return program_in(read_entry(folder.get(), entry_name(profile_text)), profile_text);
}

void SeccompCache::keep(std::string_view profile_text, const linux::SeccompProgram& program) const {
  if (program.needs_listener) return;
  const std::string entry = make_entry(profile_text, program);
  if (entry.size() > largest_entry_bytes || !linux::make_dirs(folder_, 0700)) return;
  const UniqueFd folder = open_folder(folder_);
  if (!folder) return;
  ignore(linux::write_file_atomic_at(folder.get(), entry_name(profile_text), entry, 0600, linux::Durability::none));
  drop_oldest(folder_, folder.get());
}

Result<ConfigWithFilter> parse_config(std::string_view text, const SeccompCache& cache) {
  ConfigWithFilter out;
  const auto profile_text = profile_text_of(text);
  if (profile_text) out.filter = cache.find(*profile_text);
  if (out.filter) {
    out.spec = TRY_PLAIN(parse_spec(without(text, *profile_text)));
    if (!has_seccomp_annotation(out.spec)) return out;
    out.filter.reset();
  }
  out.spec = TRY_PLAIN(parse_spec(text));
  if (!out.spec.seccomp) return out;
  out.filter = TRY_PLAIN(compile_profile(*out.spec.seccomp));
  const bool listens = !out.spec.seccomp->listener_path.empty() || !out.spec.seccomp->listener_metadata.empty();
  if (profile_text && !listens && !has_seccomp_annotation(out.spec))
    cache.keep(*profile_text, *out.filter);
  return out;
}

Result<Spec> parse_spec_without_seccomp(std::string_view text) {
  const auto profile_text = profile_text_of(text);
  return profile_text ? parse_spec(without(text, *profile_text)) : parse_spec(text);
}

}  // namespace caisson::runtime
