// What `caisson doctor` knows of a host, and what it makes of it: reading, judging (pure) and mending are apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/time.hpp"
#include "cli/parse.hpp"
#include "linux/cgroup.hpp"

namespace caisson::cli {

/// What was found on the host. A probe that failed leaves its reason; "" means that it went well.
struct HostReading {
  bool is_root = true;
  std::string user;
  std::string kernel;                         ///< "6.1.0-18-amd64"
  bool is_privileged = true;                  ///< CAP_SYS_ADMIN and CAP_MKNOD in the initial user namespace
  bool is_contained = false;                  ///< root of a user namespace that is not the host's: in a container
  std::vector<std::string> missing_rights;    ///< of SYS_ADMIN and NET_ADMIN, what that root lacks
  std::uint32_t own_ids = 65536;              ///< how many ids from 0 on it has
  std::string proc_problem;                   ///< why a container cannot be given a /proc of its own
  bool may_make_cgroups = true;
  std::vector<std::string> missing_programs;  ///< of ours: caissond, caisson-runtime, caisson-worker
  bool has_fetch = true;                      ///< caisson-fetch, without which only registries cannot be reached
  std::string fetch_problem;                  ///< why it does not start: a library that the loader does not find, or its sandbox

  std::string user_namespace_problem;
  std::uint64_t max_user_namespaces = 0;
  bool denies_unprivileged_namespaces = false;  ///< kernel.unprivileged_userns_clone=0, or AppArmor restricts them
  std::string overlay_problem;
  std::string idmap_problem;  ///< of the file system that holds the state folder
  linux::CgroupMode cgroup_mode = linux::CgroupMode::unified;
  std::vector<std::string> missing_controllers;  ///< of cpu, cpuset, io, memory and pids
  bool has_seccomp = true;
  int landlock_abi = 1;
  bool has_apparmor = true;
  bool has_apparmor_parser = true;

  std::string nft_problem;
  bool forwards_ipv4 = true;
  bool filters_bridges = false;  ///< br_netfilter
  std::vector<std::string> dropping_chains;  ///< of the host, on the forward hook, with policy drop
  std::vector<std::string> firewalls;        ///< who looks after rules here: ufw, firewalld, dockerd
  std::vector<std::string> nameservers;
  bool has_only_loopback_nameservers = false;
  bool has_resolved_file = false;  ///< systemd-resolved's list of the real servers

  std::string root;  ///< the state folder
  std::string file_system;  ///< "nfs", "overlay", … where one cannot hold state; else ""
  std::uint64_t disk_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t inodes = 0;  ///< 0: the file system has no fixed number
  std::uint64_t free_inodes = 0;

  std::uint64_t store_used_bytes = 0;  ///< by images, as a running daemon says
  std::uint64_t store_quota_bytes = 0;  ///< 0: none, or no daemon runs

  std::string socket;  ///< its path; "" for TCP
  std::optional<std::uint32_t> socket_mode;
  bool may_use_socket = true;
  bool has_systemd = true;
  bool has_unit = true;
  bool is_unit_enabled = true;

  std::string policy;          ///< the signature policy's file; "": there is none
  std::string policy_problem;  ///< why it cannot be used, which stops every pull and create
  bool accepts_anything = false;
  bool needs_gpgv = false;     ///< the policy asks for OpenPGP, and gpgv is not here

  bool has_id_map_helpers = true;  ///< newuidmap and newgidmap
  bool may_map_ids = true;         ///< they have the rights that they need (setuid root, or file capabilities)
  bool has_subordinate_ids = true;
  std::uint64_t subordinate_ids = 65536;  ///< the fewer of /etc/subuid's and /etc/subgid's
  std::string uplink = "pasta";    ///< what an engine without root reaches the network by: pasta, slirp4netns or ""
  bool has_tun = true;             ///< /dev/net/tun can be opened
  // Of an ordinary user only:
  bool has_runtime_dir = true;     ///< $XDG_RUNTIME_DIR is there and this user's
  bool has_user_manager = true;    ///< the user's own systemd runs
  std::vector<std::string> missing_delegation;  ///< of cpu, io, memory and pids: what that systemd was not given
  bool lingers = true;             ///< it runs from boot on and after logout
  std::uint32_t first_user_port = 1024;  ///< net.ipv4.ip_unprivileged_port_start
  TimestampNs now = 0;
  bool has_kvm = true;
  bool has_criu = true;
  bool has_mmdebstrap = true;
};

enum class Verdict : std::uint8_t {
  good,
  note,     ///< something optional is not there
  warning,  ///< works, but not as it should
  broken,
};
std::string_view to_string(Verdict verdict);

/// What --fix does: runs programs, or writes settings now and for the next boot. Nothing that cannot be taken back.
struct Repair {
  std::vector<std::vector<std::string>> commands;
  std::string setting;  ///< "net.ipv4.ip_forward=1": /proc/sys now, /etc/sysctl.d at every boot
  std::optional<std::uint32_t> socket_mode;
  [[nodiscard]] bool empty() const { return commands.empty() && setting.empty() && !socket_mode; }
};

struct Finding {
  std::string check;  ///< "ip-forward": the same on every host, for scripts
  Verdict verdict = Verdict::good;
  std::string what;
  std::string why;   ///< why it matters
  std::string mend;  ///< the command to type, or ""
  Repair repair;
};

/// Reads the host. Changes nothing that outlives the call. Privilege: none; as an ordinary user some probes say less.
Result<HostReading> read_host(const Invocation& global);
/// What a daemon that runs says of its image store; nothing without one, and none is started.
Status ask_daemon(class Session& session, HostReading& host);
/// One finding per check, in a fixed order. Pure.
std::vector<Finding> judge_host(const HostReading& host);
/// Mends one finding. Errors: of the program or the file, naming it.
Status apply_repair(const Repair& repair, const HostReading& host);

}  // namespace caisson::cli
