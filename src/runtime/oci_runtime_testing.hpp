// What the tests of whole containers share: a runtime with its launcher, a busybox root, and ways to run, attach and wait.
#pragma once

#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "runtime/oci_runtime.hpp"
#include "runtime/protocol.hpp"
#include "runtime/test_support.hpp"

namespace caisson::runtime::testing {

class OciRuntimeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = missing_privilege(); !reason.empty()) GTEST_SKIP() << reason;
    std::string self = must(linux::readlinkat(AT_FDCWD, "/proc/self/exe"));
    launcher_ = concat(split_last(self, '/').before, "/caisson-runtime");
    // The release's static binary under the tests of a development build.
    if (const char* other = std::getenv("CAISSON_TEST_RUNTIME")) launcher_ = other;
    if (!linux::exists(launcher_).value_or(false)) GTEST_SKIP() << "needs " << launcher_ << " (target caisson-runtime)";
    must(linux::make_dirs(folder_ / "lower", 0755));
    make_root(folder_ / "lower");
    open_runtime();
  }
  void TearDown() override {
    for (auto& [id, cgroup] : started_) {
      if (!runtime_) open_runtime();
      ignore(runtime_->kill_all(id));
      if (!removed_.contains(id)) {
        ignore(runtime_->kill(id, 9));
        observer_.wait_exit(id);
        must(runtime_->remove(id, run_dir(id), cgroup));
      }
    }
  }
  void open_runtime() {
    OciOptions options;
    options.starter = starter_ = must(LauncherStarter::start(launcher_));
    runtime_ = must(create_oci_runtime(options, observer_));
  }
  std::string run_dir(const std::string& id) const { return folder_ / concat("run-", id.substr(0, 12)); }
  std::string log_path(const std::string& id) const { return folder_ / concat("log-", id.substr(0, 12)); }

  StartRequest request(std::vector<std::string> args, bool with_user_namespace = true) {
    StartRequest out;
    out.id = random_id();
    out.spec = make_spec(std::move(args), with_user_namespace);
    out.spec.cgroups_path = concat("/caisson-test-", out.id.substr(0, 12));
    out.run_dir = run_dir(out.id);
    must(linux::make_dirs(out.run_dir, 0700));
    out.log.path = log_path(out.id);
    const std::string layer = folder_ / concat("layer-", out.id.substr(0, 12));
    must(linux::make_dirs(layer + "/upper", 0755));
    must(linux::make_dirs(layer + "/work", 0755));
    linux::Overlay overlay;
    overlay.lowerdirs = {folder_ / "lower"};
    overlay.upperdir = layer + "/upper";
    overlay.workdir = layer + "/work";
    out.rootfs = overlay;
    return out;
  }
  /// What a daemon that comes back knows of it; pid and start time are Started's.
  static RecoverRequest recovery_of(const StartRequest& request) {
    RecoverRequest out;
    out.id = request.id;
    out.run_dir = request.run_dir;
    out.log = request.log;
    out.spec = request.spec;
    return out;
  }
  Started start(StartRequest request) {
    const std::string id = request.id;
    const std::string cgroup = request.spec.cgroups_path;
    auto started = must(runtime_->start(std::move(request)));
    started_[id] = cgroup;
    return started;
  }
  /// Runs to the end and returns what the log holds.
  std::string run(StartRequest request, int expected_code = 0) {
    const std::string id = request.id;
    start(std::move(request));
    EXPECT_EQ(observer_.wait_exit(id).code, expected_code);
    return log_text(id);
  }
  std::string log_text(const std::string& id, std::string_view stream = "") {
    std::string out;
    const std::string text = must(linux::read_file(log_path(id)));
    for (auto line : split(text, '\n')) {
      if (line.empty()) continue;
      auto record = must(parse_json(line, concat("log line <", line, ">")));
      const auto& object = record.as_object();
      if (stream.empty() || object.at("stream").as_string() == stream) out += object.at("log").as_string().c_str();
    }
    return out;
  }

  bool launcher_is_static() const {
    return must(linux::read_file(launcher_, std::size_t{256} << 20U)).find("/ld-linux") == std::string::npos;
  }
  struct Attached {
    UniqueFd ours;
    AttachRequest request;
  };
  static Attached attachment(bool with_stdin, bool framed) {
    auto pair = must(linux::socketpair(linux::UnixType::stream));
    Attached out;
    out.ours = std::move(pair.first);
    out.request.client = std::move(pair.second);
    out.request.with_stdin = with_stdin;
    out.request.with_stdout = true;
    out.request.with_stderr = true;
    out.request.framed = framed;
    return out;
  }
  static std::string read_to_end(int fd) {
    std::string out;
    std::array<char, 65536> buffer;
    while (true) {
      if (!linux::wait_readable(fd, 20000).value_or(false)) {
        ADD_FAILURE() << "no end of the stream; so far: " << out;
        return out;
      }
      auto got = linux::read(fd, buffer);
      if (!got || *got == 0) return out;
      out.append(buffer.data(), *got);
    }
  }
  static std::string read_until(int fd, std::string_view wanted) {
    std::string out;
    std::array<char, 4096> buffer;
    while (out.find(wanted) == std::string::npos) {
      if (!linux::wait_readable(fd, 20000).value_or(false)) {
        ADD_FAILURE() << "waited for " << wanted << ", got: " << out;
        return out;
      }
      auto got = linux::read(fd, buffer);
      if (!got || *got == 0) {
        ADD_FAILURE() << "ended before " << wanted << ": " << out;
        return out;
      }
      out.append(buffer.data(), *got);
    }
    return out;
  }
  /// The pid of a container's monitor: who answers its socket.
  int monitor_pid(const std::string& id) {
    auto socket = must(linux::unix_connect(concat(run_dir(id), "/", monitor_socket_name), linux::UnixType::seqpacket));
    return must(linux::peer_credentials(socket.get())).pid;
  }
  void kill_and_wait(int pid) {
    auto pidfd = must(linux::pidfd_open(pid));
    must(linux::pidfd_send_signal(pidfd.get(), 9));
    EXPECT_TRUE(linux::wait_readable(pidfd.get(), 20000).value_or(false));
  }
  Process process(std::vector<std::string> args) { return make_spec(std::move(args), true).process; }
  static constexpr int any_code = -1;
  std::string exec(const std::string& id, std::vector<std::string> args, int expected_code = 0) {
    ExecRequest request;
    request.exec_id = random_id();
    request.process = process(std::move(args));
    auto attached = attachment(false, false);
    request.attached = std::move(attached.request);
    const std::string exec_id = request.exec_id;
    auto pid = runtime_->exec(id, std::move(request));
    if (!pid) return concat("error: ", pid.error().text());
    auto out = read_to_end(attached.ours.get());
    const int code = observer_.wait_exit(exec_id).code;
    if (expected_code != any_code) {
      EXPECT_EQ(code, expected_code) << out;
    }
    return out;
  }

  std::string launcher_;
  TestFolder folder_;
  WaitingObserver observer_;
  std::shared_ptr<LauncherStarter> starter_;
  std::unique_ptr<Runtime> runtime_;
  std::map<std::string, std::string> started_;
  std::map<std::string, bool> removed_;
};

}  // namespace caisson::runtime::testing
