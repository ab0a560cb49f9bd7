// The judgements of `caisson doctor`: pure, so that every sick host is a unit test.
#include "base/strings.hpp"
#include "cli/doctor.hpp"

namespace caisson::cli {

namespace {

// Packages are named as Debian and Ubuntu do, for which we are packaged.
std::string install(std::string_view package) { return concat("apt-get install ", package); }

class Judge {
 public:
  explicit Judge(const HostReading& host) : host_(host) {}

  std::vector<Finding> all() {
    programs();
    registries();
    kernel();
    user_namespaces();
    fresh_proc();
    files();
    cgroups();
    confinement();
    trust();
    firewall();
    names();
    space();
    service();
    rootless();
    clock();
    extras();
    return std::move(findings_);
  }

 private:
  static constexpr std::uint64_t ids_needed = 65534;  // with the user's own as 0: those that images use

  Finding& add(std::string_view check, Verdict verdict, std::string what, std::string why = "", std::string mend = "") {
    findings_.push_back({std::string(check), verdict, std::move(what), std::move(why), std::move(mend), {}});
    return findings_.back();
  }
  void good(std::string_view check, std::string what) { add(check, Verdict::good, std::move(what)); }

  void programs() {
    if (host_.missing_programs.empty()) return good("programs", "caissond, caisson-runtime and caisson-worker are installed");
    add("programs", Verdict::broken, concat("missing: ", join(host_.missing_programs, ", ")), "the command line only asks; these programs do the work",
        install("caisson"));
  }

  void registries() {
    const std::string_view why = "pull, push, login and search go through it; everything else works";
    if (!host_.has_fetch) add("registries", Verdict::warning, "caisson-fetch is not installed", std::string(why), install("caisson"));
    else if (host_.fetch_problem.empty()) good("registries", "caisson-fetch starts and enters its sandbox");
    else {
      const bool lacks_curl = host_.fetch_problem.find("libcurl") != std::string::npos;
      add("registries", Verdict::broken, concat("caisson-fetch does not start: ", host_.fetch_problem), std::string(why),
          lacks_curl ? install("libcurl4") : install("--reinstall caisson"));
    }
  }

  void kernel() {
    if (host_.is_contained) contained();
    else if (host_.is_root && !host_.is_privileged)
      add("privilege", Verdict::broken, "root lacks CAP_SYS_ADMIN or CAP_MKNOD here", "this is itself a container: mounts and devices of containers cannot be made",
          "start the container around with --privileged, or with a user namespace of its own (docs/how-to/engine-in-a-container.md)");
    else good("privilege", host_.is_root ? "root with full rights" : concat("ordinary user ", host_.user));
    good("kernel", concat("Linux ", host_.kernel));
  }

  /// Root of a container's user namespace.
  void contained() {
    if (!host_.missing_rights.empty()) {
      std::string mend = "start the container around with --security-opt nesting";
      for (const auto& right : host_.missing_rights) mend += concat(" --cap-add ", right);
      add("privilege", Verdict::broken, concat("root of this container lacks ", join(host_.missing_rights, ", ")), "namespaces, mounts and networks of containers are made with them; they reach no further than the container around", mend);
    } else {
      good("privilege", "root of a container's user namespace, with the rights that an engine needs");
    }
    constexpr std::uint32_t least = 65535;
    if (host_.own_ids >= least) good("own-ids", concat("ids 0 to ", host_.own_ids - 1));
    else
      add("own-ids", Verdict::broken, concat("this user namespace has ", host_.own_ids, " ids"), concat("images use 0 to ", least - 1),
          "start the container around with a map of 65536 ids");
  }

  void fresh_proc() {
    if (host_.proc_problem.empty()) return good("fresh-proc", "containers can be given a /proc of their own");
    add("fresh-proc", Verdict::broken, concat("a /proc of its own cannot be mounted for a container: ", host_.proc_problem), "the kernel refuses it while parts of the /proc around are covered, as they are in a container",
        "start the container around with --security-opt nesting (Docker and Podman: systempaths=unconfined or unmask=ALL, and a seccomp profile that lets mount)");
  }

  void user_namespaces() {
    if (host_.user_namespace_problem.empty()) return good("user-namespaces", concat("at most ", host_.max_user_namespaces, " user namespaces"));
    if (host_.max_user_namespaces == 0) {
      auto& finding = add("user-namespaces", Verdict::broken, "user namespaces are switched off (user.max_user_namespaces=0)",
                          "every container runs in one: root inside is nobody outside", "sysctl -w user.max_user_namespaces=65536");
      finding.repair.setting = "user.max_user_namespaces=65536";
      return;
    }
    add("user-namespaces", Verdict::broken, concat("a user namespace cannot be made: ", host_.user_namespace_problem),
        "every container runs in one: root inside is nobody outside",
        host_.user_namespace_problem.find("not permitted") != std::string::npos ? "in a container: start it with --security-opt nesting; elsewhere: sysctl -w kernel.unprivileged_userns_clone=1"
                                                                               : "zgrep CONFIG_USER_NS /proc/config.gz /boot/config-$(uname -r)");
  }

  void files() {
    if (host_.overlay_problem.empty()) {
      good("overlay", "overlay file systems can be mounted");
    } else {
      auto& finding = add("overlay", Verdict::broken, concat("an overlay cannot be mounted: ", host_.overlay_problem),
                          "images are layers of an overlay", "modprobe overlay");
      finding.repair.commands = {{"modprobe", "overlay"}};
    }
    if (!host_.is_root || host_.is_contained) return;  // nothing is mapped without the host's root
    if (host_.idmap_problem.empty()) good("idmapped-mounts", concat(host_.root, " can be mounted through id maps"));
    else
      add("idmapped-mounts", Verdict::broken, concat("the file system of ", host_.root, " cannot be mounted through an id map: ", host_.idmap_problem),
          "layers are shared by containers with different ids that way", concat("keep the state on ext4, xfs or btrfs: caissond --root FOLDER"));
  }

  void cgroups() {
    if (host_.cgroup_mode == linux::CgroupMode::none) {
      add("cgroups", Verdict::broken, "no cgroup file system is mounted", "limits, statistics and killing need it", "mount -t cgroup2 cgroup2 /sys/fs/cgroup");
      return;
    }
    std::string layout = concat("layout: ", to_string(host_.cgroup_mode));
    if (!host_.may_make_cgroups) {
      add("cgroups", Verdict::warning, concat(layout, "; none can be made here"), "containers are neither limited nor paused nor measured by themselves; the limits of the container around hold for all of them together",
          host_.cgroup_mode == linux::CgroupMode::unified ? "start the container around with --security-opt nesting" : "use a host with cgroup v2 alone: v1 is handed to no container");
      return;
    }
    if (host_.missing_controllers.empty()) return good("cgroups", concat(layout, "; cpu, cpuset, io, memory and pids are there"));
    bool lacks_memory = join(host_.missing_controllers, " ").find("memory") != std::string::npos;
    add("cgroups", Verdict::warning, concat(layout, "; missing controllers: ", join(host_.missing_controllers, ", ")),
        "limits of that kind are refused", lacks_memory ? "add cgroup_enable=memory to the kernel's command line" : "use a kernel that has them built in");
  }

  void confinement() {
    if (host_.has_seccomp) good("seccomp", "system calls can be filtered");
    else
      add("seccomp", Verdict::broken, "the kernel cannot filter system calls", "containers run under a filter, and nothing is started without it",
          "use a kernel with CONFIG_SECCOMP_FILTER=y");
    if (host_.landlock_abi > 0) good("landlock", concat("ABI ", host_.landlock_abi));
    else
      add("landlock", Verdict::warning, "Landlock is off", "the process that unpacks images is then confined by namespaces and seccomp only",
          "add landlock to the list in lsm= of the kernel's command line");
    if (host_.has_apparmor && !host_.has_apparmor_parser)
      add("apparmor", Verdict::warning, "AppArmor is on, and apparmor_parser is not installed", "containers run without the default profile; the other walls stand", install("apparmor"));
    else if (host_.has_apparmor) good("apparmor", "is on; containers have the profile caisson-default");
    else add("apparmor", Verdict::note, "AppArmor is off", "--security-opt apparmor=PROFILE is refused, but for unconfined", install("apparmor"));
  }

  void trust() {
    constexpr std::string_view by_whom = "which signatures images need, this file says (docs/how-to/sign-images.md)";
    if (!host_.policy_problem.empty())
      add("trust", Verdict::broken, host_.policy_problem, "no image is pulled and no container made under a policy that cannot be read", "correct the file; caisson image trust show reads it");
    else if (host_.needs_gpgv)
      add("trust", Verdict::broken, concat(host_.policy, " asks for OpenPGP signatures, and gpgv is not installed"), "every image that needs one is refused", install("gpgv"));
    else if (host_.accepts_anything)
      add("trust", Verdict::note, concat("this host accepts images from anyone (", host_.policy.empty() ? "there is no signature policy" : host_.policy, ")"), std::string(by_whom),
          "caisson image trust set -t reject default, then allow whom you trust");
    else good("trust", concat("images are judged by ", host_.policy));
  }

  void firewall() {
    if (host_.nft_problem.empty()) {
      good("nftables", "works");
    } else {
      bool is_missing = host_.nft_problem == "not installed";
      if (!host_.is_root && !is_missing) return good("nftables", "is installed");  // an ordinary user may use it in namespaces of his own
      add("nftables", Verdict::broken, concat("nft: ", host_.nft_problem), "published ports and the way out of containers are rules of it",
          is_missing ? install("nftables") : "nft list tables");
    }
    if (!host_.is_root) return;  // the rest is in a network namespace of the engine's own
    if (host_.forwards_ipv4) {
      good("ip-forward", "IPv4 is forwarded");
    } else {
      auto& finding = add("ip-forward", Verdict::warning, "net.ipv4.ip_forward is 0", "containers reach nothing outside; the daemon sets it, until something resets it",
                          "sysctl -w net.ipv4.ip_forward=1");
      finding.repair.setting = "net.ipv4.ip_forward=1";
    }
    std::string by = host_.firewalls.empty() ? "" : concat(" (here: ", join(host_.firewalls, ", "), ")");
    if (host_.dropping_chains.empty()) good("forward-policy", concat("no chain of the host drops what is forwarded", by));
    else
      add("forward-policy", Verdict::warning, concat("forwarded packets are dropped by ", join(host_.dropping_chains, ", "), by),
          "the daemon adds accepts for its bridge there when it starts; a reload of the firewall takes them away", "systemctl restart caissond");
    if (host_.filters_bridges) good("bridge-filter", "br_netfilter is on: traffic between containers passes the host's IP rules");
    else good("bridge-filter", "br_netfilter is off");
  }

  void names() {
    if (!host_.nameservers.empty() && !host_.has_only_loopback_nameservers) return good("dns", concat("servers: ", join(host_.nameservers, ", ")));
    if (host_.has_resolved_file) return good("dns", "containers ask the servers that systemd-resolved knows");
    add("dns", Verdict::warning, host_.nameservers.empty() ? "/etc/resolv.conf names no server" : "/etc/resolv.conf names only servers of this host itself",
        "containers ask 8.8.8.8 then", "caisson run --dns ADDRESS, or name a server in /etc/resolv.conf");
  }

  void space() {
    constexpr std::uint64_t gibibyte = 1ULL << 30U;
    constexpr std::uint64_t twentieth = 20;
    if (!host_.file_system.empty())
      add("state-folder", Verdict::broken, concat(host_.root, " lies on ", host_.file_system), "an overlay cannot have its writable layer there",
          "keep the state on ext4, xfs or btrfs: caissond --root FOLDER");
    else good("state-folder", host_.root);
    std::string left = concat(human_size_binary(host_.free_bytes), " of ", human_size_binary(host_.disk_bytes), " left for ", host_.root);
    if (host_.free_bytes < gibibyte / 8)
      add("disk-space", Verdict::broken, left, "neither images nor logs can be written", "caisson system prune");
    else if (host_.free_bytes < gibibyte || host_.free_bytes < host_.disk_bytes / twentieth)
      add("disk-space", Verdict::warning, left, "pulls and builds will soon fail", "caisson system prune");
    else good("disk-space", left);
    store_quota();
    if (host_.inodes == 0) return;
    std::string names = concat(host_.free_inodes, " of ", host_.inodes, " inodes left");
    if (host_.free_inodes < host_.inodes / twentieth)
      add("inodes", host_.free_inodes < 1000 ? Verdict::broken : Verdict::warning, names, "no more files can be made although there is space", "caisson system prune");
    else good("inodes", names);
  }

  void store_quota() {
    if (host_.store_quota_bytes == 0) return;
    const std::string use = concat("images take ", human_size_binary(host_.store_used_bytes), " of the quota of ", human_size_binary(host_.store_quota_bytes));
    if (host_.store_used_bytes >= host_.store_quota_bytes / 10 * 9)
      add("store-quota", Verdict::warning, use, "pulls and builds that do not fit are refused, and the build cache is given away for those that do", "caisson image prune");
    else good("store-quota", use);
  }

  void service() {
    if (!host_.has_systemd) add("systemd", Verdict::note, "systemd does not run here", "the daemon is started by the first command instead of at boot");
    else if (!host_.has_unit) add("systemd", Verdict::note, "no unit caissond.socket", "the daemon is started by the first command instead of at boot", install("caisson"));
    else if (!host_.is_unit_enabled) {
      std::vector<std::string> command = {"systemctl", "enable", "--now", "caissond.socket", "caissond.service"};
      if (!host_.is_root) command.insert(command.begin() + 1, "--user");
      auto& finding = add("systemd", Verdict::warning, "caissond.socket is not enabled", "containers with a restart policy do not come back after a boot", join(command, " "));
      finding.repair.commands = {command};
    } else {
      good("systemd", "caissond.socket is enabled");
    }
    if (host_.socket.empty() || !host_.socket_mode) return;
    constexpr std::uint32_t others = 0007;
    if ((*host_.socket_mode & others) != 0) {
      auto& finding = add("socket", Verdict::broken, concat("everybody may use ", host_.socket), "whoever may use it is as powerful as root", concat("chmod 0660 ", host_.socket));
      finding.repair.socket_mode = 0660;
    } else if (!host_.may_use_socket) {
      add("socket", Verdict::warning, concat(host_.user, " may not use ", host_.socket), "only root and its group may ask the daemon",
          concat("usermod -aG caisson ", host_.user, "   # makes ", host_.user, " as powerful as root"));
    } else {
      good("socket", host_.socket);
    }
  }

  void rootless() {
    if (host_.denies_unprivileged_namespaces)
      add("unprivileged-namespaces", host_.is_root ? Verdict::note : Verdict::broken, "ordinary users may not make user namespaces", "an engine without root needs it",
          "sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0");
    if (!host_.has_id_map_helpers)
      add("id-maps", host_.is_root ? Verdict::note : Verdict::broken, "newuidmap and newgidmap are not installed", "an engine without root maps ids with them", install("uidmap"));
    else if (!host_.may_map_ids)
      add("id-maps", host_.is_root ? Verdict::note : Verdict::broken, "newuidmap and newgidmap are neither setuid root nor have they file capabilities", "they cannot map anything then",
          "apt-get install --reinstall uidmap");
    else if (!host_.has_subordinate_ids)
      add("id-maps", host_.is_root ? Verdict::note : Verdict::broken, concat("/etc/subuid or /etc/subgid has no range for ", host_.user),
          "an engine without root maps its containers' ids there", give_ids());
    else if (host_.subordinate_ids < ids_needed)
      add("id-maps", Verdict::broken, concat("/etc/subuid and /etc/subgid give ", host_.user, " ", host_.subordinate_ids, " ids"), concat("containers need ", ids_needed), give_ids());
    else good("id-maps", "newuidmap, newgidmap and subordinate ids are there");
    uplink();
    if (!host_.is_root) session();
  }

  [[nodiscard]] std::string give_ids() const {
    return concat("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ", host_.user, "   # or a range that nobody has");
  }

  void uplink() {
    const Verdict verdict = host_.is_root ? Verdict::note : Verdict::warning;
    constexpr std::string_view why = "containers of an engine without root reach the network by it, and so do its builds' ADD of addresses and repositories";
    if (host_.uplink.empty()) add("rootless-network", verdict, "neither pasta nor slirp4netns is installed", std::string(why), install("passt"));
    else if (!host_.has_tun) add("rootless-network", verdict, concat("/dev/net/tun cannot be opened, and ", host_.uplink, " needs it"), std::string(why), "modprobe tun; chmod 0666 /dev/net/tun");
    else good("rootless-network", concat(host_.uplink, " is installed"));
  }

  /// What an ordinary user's session must have.
  void session() {
    if (host_.has_runtime_dir) good("runtime-dir", "XDG_RUNTIME_DIR is there");
    else
      add("runtime-dir", Verdict::broken, "XDG_RUNTIME_DIR is not set, or no folder of this user", "the daemon's socket lies there; su and sudo do not set it",
          concat("log in by ssh or on a console, or: machinectl shell ", host_.user, "@"));
    delegation();
    if (host_.has_systemd) {
      if (host_.lingers) good("linger", "this user's services run from boot on");
      else
        add("linger", Verdict::note, concat(host_.user, "'s services end at logout and do not start at boot"), "and so do the daemon and its containers",
            concat("loginctl enable-linger ", host_.user));
    }
    constexpr std::uint32_t first_of_everybody = 1024;
    if (host_.first_user_port < first_of_everybody) good("low-ports", concat("ports from ", host_.first_user_port, " on can be published"));
    else
      add("low-ports", Verdict::note, concat("ports below ", host_.first_user_port, " are for root"), "they cannot be published without root", "sysctl -w net.ipv4.ip_unprivileged_port_start=80");
  }

  void delegation() {
    constexpr std::string_view why = "without them containers are neither limited nor paused nor measured";
    if (host_.cgroup_mode != linux::CgroupMode::unified)
      add("delegation", Verdict::warning, concat("cgroups of layout ", to_string(host_.cgroup_mode), " are not delegated to users"), std::string(why),
          "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line");
    else if (!host_.has_user_manager)
      add("delegation", Verdict::warning, concat("no systemd of ", host_.user, " runs, which makes containers' cgroups"), std::string(why),
          concat("apt-get install dbus-user-session; loginctl enable-linger ", host_.user));
    else if (!host_.missing_delegation.empty())
      add("delegation", Verdict::warning, concat("not delegated to users: ", join(host_.missing_delegation, ", ")), "limits of that kind are refused",
          "mkdir -p /etc/systemd/system/user@.service.d; printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' > /etc/systemd/system/user@.service.d/delegate.conf; systemctl daemon-reload");
    else good("delegation", "cpu, io, memory and pids are delegated to this user");
  }

  void clock() {
    constexpr TimestampNs january_2025 = 1'735'689'600LL * 1'000'000'000;  // older than this program
    if (host_.now < january_2025)
      add("clock", Verdict::broken, concat("the clock says ", to_rfc3339(host_.now)), "certificates of registries are not valid yet, and times of images are wrong", "timedatectl set-ntp true");
    else good("clock", to_rfc3339(host_.now));
  }

  void extras() {
    if (host_.has_kvm) good("kvm", "/dev/kvm is there");
    else add("kvm", Verdict::note, "no /dev/kvm", "virtual machines inside containers are slow", "switch virtualisation on in the firmware");
    if (host_.has_criu) good("criu", "is installed");
    else add("criu", Verdict::note, "criu is not installed", "caisson-runtime checkpoint and restore need it", install("criu"));
    if (host_.has_mmdebstrap) good("mmdebstrap", "is installed");
    else add("mmdebstrap", Verdict::note, "mmdebstrap is not installed", "caisson image bootstrap needs it", install("mmdebstrap"));
  }

  const HostReading& host_;
  std::vector<Finding> findings_;
};

}  // namespace

std::string_view to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::good: return "good";
    case Verdict::note: return "note";
    case Verdict::warning: return "warning";
    case Verdict::broken: return "broken";
  }
  return "broken";
}

std::vector<Finding> judge_host(const HostReading& host) { return Judge(host).all(); }

}  // namespace caisson::cli
