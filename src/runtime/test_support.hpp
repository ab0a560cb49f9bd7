// What the privileged tests of this module share: a busybox root, a specification, and an observer that waits.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"
#include "runtime/plan.hpp"
#include "runtime/runtime.hpp"

namespace caisson::runtime::testing {

template <typename T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().text();
    std::abort();
  }
  return std::move(result).value();
}
inline void must(Status result) {
  if (!result) ADD_FAILURE() << result.error().text();
}

/// Reason why privileged tests cannot run here; empty when they can.
inline std::string missing_privilege() {
  auto facts = read_host_facts();
  if (!facts) return facts.error().text();
  if (!facts->is_privileged) return "needs CAP_SYS_ADMIN and CAP_MKNOD in the initial user namespace";
  if (!linux::exists("/bin/busybox").value_or(false)) return "needs /bin/busybox (busybox-static)";
  return "";
}

/// A folder below /tmp that is removed again.
class TestFolder {
 public:
  TestFolder() : path_(concat("/tmp/caisson-test-", random_id().substr(0, 12))) { must(linux::make_dirs(path_, 0755)); }
  ~TestFolder() { ignore(linux::remove_tree(path_)); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  [[nodiscard]] std::string operator/(std::string_view name) const { return concat(path_, "/", name); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// A root file system with busybox and what images usually have.
inline void make_root(const std::string& root) {
  for (const char* name : {"/bin", "/etc", "/proc", "/sys", "/dev", "/tmp", "/root", "/home/user"}) must(linux::make_dirs(concat(root, name), 0755));
  auto binary = must(linux::read_file("/bin/busybox"));
  must(linux::write_file(concat(root, "/bin/busybox"), binary, 0755));
  for (const char* name : {"sh", "cat", "echo", "true", "false", "sleep", "id", "ls", "mount", "umount", "hostname", "touch", "kill",
                           "test", "head", "stty", "tty", "ps", "env", "pwd", "grep", "yes", "dd", "mkdir", "readlink", "stat", "rm", "wc", "seq", "tail", "od"})
    must(linux::symlinkat("busybox", AT_FDCWD, concat(root, "/bin/", name)));
  must(linux::write_file(concat(root, "/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n", 0644));
}

inline Mount mount_of(std::string destination, std::string type, std::vector<std::string> options) {
  Mount mount;
  mount.destination = std::move(destination);
  mount.source = type;
  mount.type = std::move(type);
  mount.options = std::move(options);
  return mount;
}

/// What `runc spec` writes, in short; with a user namespace unless `host_users`.
inline Spec make_spec(std::vector<std::string> args, bool with_user_namespace) {
  Spec spec;
  spec.process.args = std::move(args);
  spec.process.env = {"PATH=/bin", "HOME=/root", "TERM=xterm"};
  spec.process.no_new_privileges = true;
  CapabilitySets caps;
  caps.bounding = {"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"};
  caps.permitted = caps.bounding;
  caps.effective = caps.bounding;
  spec.process.capabilities = caps;
  spec.hostname = "box";
  for (auto type : {NamespaceType::pid, NamespaceType::mount, NamespaceType::ipc, NamespaceType::uts, NamespaceType::network, NamespaceType::cgroup})
    spec.namespaces.push_back({type, ""});
  if (with_user_namespace) {
    spec.namespaces.push_back({NamespaceType::user, ""});
    spec.id_map.uids.push_back({0, 300000, 65536});
    spec.id_map.gids.push_back({0, 300000, 65536});
  }
  spec.mounts = {mount_of("/proc", "proc", {"nosuid", "noexec", "nodev"}),
                 mount_of("/dev", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
                 mount_of("/dev/pts", "devpts", {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
                 mount_of("/dev/shm", "tmpfs", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
                 mount_of("/dev/mqueue", "mqueue", {"nosuid", "noexec", "nodev"}),
                 mount_of("/sys", "sysfs", {"nosuid", "noexec", "nodev", "ro"}),
                 mount_of("/sys/fs/cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"})};
  spec.masked_paths = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"};
  spec.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return spec;
}

/// Remembers what it is told and lets tests wait for it.
class WaitingObserver : public RuntimeObserver {
 public:
  void container_exited(const std::string& id, const ExitStatus& status) override { note([&] { exits_[id] = status; }); }
  void container_oom(const std::string& id) override { note([&] { ++ooms_[id]; }); }
  void exec_exited(const std::string& /*id*/, const std::string& exec_id, const ExitStatus& status) override {
    note([&] { exits_[exec_id] = status; });
  }
  void monitor_replaced(const std::string& id, const Status& outcome) override {
    note([&] { replaced_[id] = outcome ? std::string() : outcome.error().text(); });
  }
  void client_detached(const std::string& id) override { note([&] { ++detached_[id]; }); }

  /// Of a container or an exec. Fails the test after 20 s.
  ExitStatus wait_exit(const std::string& id) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20), [&] { return exits_.contains(id); })) ADD_FAILURE() << "no exit of " << id;
    return exits_[id];
  }
  bool wait_replaced(const std::string& id) {
    std::unique_lock lock(mutex_);
    const bool is_replaced = changed_.wait_for(lock, std::chrono::seconds(20), [&] { return replaced_.contains(id) && replaced_[id].empty(); });
    EXPECT_TRUE(is_replaced) << replaced_[id];
    return is_replaced;
  }
  /// Why no monitor of ours serves the container.
  std::string wait_refusal(const std::string& id) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(20), [&] { return replaced_.contains(id); })) ADD_FAILURE() << "nothing was said of the monitor of " << id;
    return replaced_[id];
  }
  bool was_told_of_monitor(const std::string& id) {
    std::unique_lock lock(mutex_);
    return replaced_.contains(id);
  }
  bool wait_detached(const std::string& id) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return detached_[id] > 0; });
  }
  int ooms(const std::string& id) {
    std::unique_lock lock(mutex_);
    return ooms_[id];
  }

 private:
  template <typename Change>
  void note(Change&& change) {
    std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, ExitStatus> exits_;
  std::map<std::string, int> ooms_;
  std::map<std::string, std::string> replaced_;
  std::map<std::string, int> detached_;
};

}  // namespace caisson::runtime::testing
