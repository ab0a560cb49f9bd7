// Containers end to end through launcher and monitor, on this kernel, with a busybox root.
#include "runtime/oci_runtime.hpp"

#include <chrono>

#include "linux/event.hpp"
#include "linux/socket.hpp"
#include "runtime/protocol.hpp"
#include "runtime/test_support.hpp"

namespace caisson::runtime {
namespace {

using testing::make_root;
using testing::make_spec;
using testing::must;
using testing::TestFolder;
using testing::WaitingObserver;

class OciRuntimeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = testing::missing_privilege(); !reason.empty()) GTEST_SKIP() << reason;
    std::string self = must(linux::readlinkat(AT_FDCWD, "/proc/self/exe"));
    launcher_ = concat(split_last(self, '/').before, "/caisson-runtime");
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
    options.launcher_path = launcher_;
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
    for (auto line : split(must(linux::read_file(log_path(id))), '\n')) {
      if (line.empty()) continue;
      auto record = must(parse_json(line, "log"));
      const auto& object = record.as_object();
      if (stream.empty() || object.at("stream").as_string() == stream) out += object.at("log").as_string().c_str();
    }
    return out;
  }

  std::string launcher_;
  TestFolder folder_;
  WaitingObserver observer_;
  std::unique_ptr<Runtime> runtime_;
  std::map<std::string, std::string> started_;
  std::map<std::string, bool> removed_;
};

TEST_F(OciRuntimeTest, a_program_runs_in_its_own_user_namespace_and_its_output_is_logged) {
  auto out = run(request({"sh", "-c", "id -u; cat /proc/self/uid_map; hostname; echo oops >&2; exit 7"}), 7);
  EXPECT_NE(out.find("0\n"), std::string::npos);
  EXPECT_NE(out.find("300000"), std::string::npos) << out;
  EXPECT_NE(out.find("box\n"), std::string::npos) << out;
  EXPECT_NE(out.find("oops\n"), std::string::npos) << out;
}

}  // namespace
}  // namespace caisson::runtime
