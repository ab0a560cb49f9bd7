// What holds a container back, what the kernel refused it, and what a run of it was seen to need.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "engine/types.hpp"
#include "runtime/spec.hpp"

namespace caisson::engine {

/// Something that the kernel did not let a container do, by the kernel's own record; like ones are counted together.
struct Refusal {
  std::string by;       ///< "seccomp", "apparmor", "selinux", "memory", "pids"
  std::string what;     ///< "mount", "open /etc/shadow", "a process beyond the limit"
  std::string program;  ///< what the thread called itself; "" where the kernel does not say
  std::uint64_t count = 0;
  TimestampNs first = 0;  ///< 0: unknown
  TimestampNs last = 0;
  bool is_fatal = false;  ///< it was killed for it
};

/// System calls by what the filter says of them, on the native architecture.
struct CallCounts {
  std::uint32_t allowed = 0;
  std::uint32_t conditional = 0;  ///< it depends on their arguments
  std::uint32_t refused = 0;
};

/// The box a container is in: of a running one as the kernel tells it, of another as its next start would make it.
struct SecurityReport {
  std::string id;
  std::string name;
  State state = State::created;
  pid_t pid = 0;  ///< 0: it does not run
  bool is_privileged = false;
  std::vector<std::string> capabilities;       ///< that its programs can have at most ("CAP_CHOWN")
  std::vector<std::string> lost_capabilities;  ///< of docker's default ones, those that it lacks
  std::uint32_t all_capabilities = 0;          ///< how many this kernel knows
  bool no_new_privileges = false;
  std::string seccomp;  ///< "default", "unconfined", "own profile"
  CallCounts calls;     ///< zeros when unconfined
  bool logs_refusals = false;
  std::string label;    ///< AppArmor's or SELinux'; "" when there is none
  std::map<std::string, std::string> namespaces;  ///< "user" → "own", "host", "container:<id>"
  std::uint32_t first_host_id = 0;                ///< root inside is this user of the host; 0: the host's root
  std::uint32_t host_ids = 0;                     ///< of its own; 1: the user of an engine without root, whose other ids all his containers share
  bool is_root_read_only = false;
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;
  struct Mount {
    std::string destination;
    std::string source;
    bool is_writable = false;
    bool keeps_owners = false;  ///< files of the host keep their owners inside
  };
  std::vector<Mount> mounts;
  std::vector<std::string> devices;  ///< beyond the usual ones: "/dev/fuse rwm", "c 10:* rw"
  std::map<std::string, std::string> sysctls;
  std::int64_t memory_limit_bytes = 0;  ///< 0: none
  std::int64_t pids_limit = 0;          ///< 0: none
  std::vector<Refusal> refusals;
  std::vector<std::string> gaps;  ///< what cannot be told, and why
};

/// What was seen of a container while it was watched.
struct Learned {
  bool is_watching = false;
  bool saw_the_start = false;   ///< from its program's first instruction on
  std::vector<std::string> calls;    ///< system calls it made, by name
  std::vector<std::string> refused;  ///< and those the filter refused
  bool knows_capabilities = false;   ///< this kernel tells of them (6.15)
  std::vector<std::string> capabilities;          ///< used
  std::vector<std::string> lacking_capabilities;  ///< asked for, and not had
  std::uint64_t most_processes = 0;  ///< at once, of all readings
  std::uint64_t most_memory_bytes = 0;
  std::uint64_t lost = 0;            ///< times that events were lost: something may be missing
  // -- of a watch that has ended
  std::vector<std::string> written;  ///< paths of its own layer that differ from the image's
  // -- the tighter box that would have done
  runtime::SeccompProfile profile;
  std::vector<std::string> cap_add;  ///< to `--cap-drop all`
  bool read_only = false;
  std::vector<std::string> tmpfs;    ///< folders it wrote to that need not last
  std::int64_t pids_limit = 0;
  std::int64_t memory_bytes = 0;
};

}  // namespace caisson::engine
