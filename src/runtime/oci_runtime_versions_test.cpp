// A daemon that meets monitors of other builds: one of the version before is spoken to, an unknown newer one is left alone with its container.
#include <gmock/gmock.h>

#include <thread>

#include "linux/event.hpp"
#include "runtime/oci_runtime_testing.hpp"

namespace caisson::runtime {
namespace {

using ::testing::HasSubstr;
using testing::must;
using testing::OciRuntimeTest;

/// Stands between a daemon and a monitor of this build, whose state it changes into that of another version; the rest it passes on.
class OtherBuild {
 public:
  OtherBuild(const std::string& run_dir, std::uint32_t version, std::uint32_t oldest) : version_(version), oldest_(oldest), hidden_(run_dir + "/hidden.sock") {
    const std::string shown = concat(run_dir, "/", monitor_socket_name);
    must(linux::renameat2(AT_FDCWD, shown, AT_FDCWD, hidden_));
    listener_ = must(linux::unix_listen(shown, linux::UnixType::seqpacket, 0600));
    stop_ = must(linux::eventfd());
    thread_ = std::thread([this] { run(); });
  }
  ~OtherBuild() {
    must(linux::eventfd_signal(stop_.get()));
    thread_.join();
  }
  OtherBuild(const OtherBuild&) = delete;
  OtherBuild& operator=(const OtherBuild&) = delete;

 private:
  struct Pair {
    UniqueFd daemon;
    UniqueFd monitor;
  };

  void run() {
    for (;;) {
      std::vector<linux::PollEntry> entries = {{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
      for (const auto& pair : pairs_)
        for (int fd : {pair.daemon.get(), pair.monitor.get()}) entries.push_back({fd, POLLIN, 0});
      must(linux::poll(entries, -1));
      if (entries[0].revents != 0) return;
      for (std::size_t i = 0; i < pairs_.size(); ++i) {
        const bool goes_on = (entries[2 + 2 * i].revents == 0 || pass(pairs_[i].daemon, pairs_[i].monitor)) && (entries[3 + 2 * i].revents == 0 || pass(pairs_[i].monitor, pairs_[i].daemon));
        if (!goes_on) pairs_[i] = {};
      }
      std::erase_if(pairs_, [](const Pair& pair) { return !pair.daemon; });
      if (entries[1].revents == 0) continue;
      Pair pair;
      pair.daemon = must(linux::accept4(listener_.get()));
      auto monitor = linux::unix_connect(hidden_, linux::UnixType::seqpacket);
      if (monitor) pair.monitor = std::move(*monitor);
      if (pair.monitor) pairs_.push_back(std::move(pair));
    }
  }
  bool pass(const UniqueFd& from, const UniqueFd& to) {
    auto message = receive_body(from.get());
    if (!message || message->closed) return false;
    if (message->head.kind == MessageKind::state) message->body = as_other_version(message->body);
    std::vector<int> fds;
    for (const auto& fd : message->fds) fds.push_back(fd.get());
    return send_bytes(to.get(), message->head.kind, message->head.request, message->body, fds).ok();
  }
  /// The version stands first; the oldest one last, and version 1 has none.
  std::string as_other_version(const std::string& body) const {
    const std::string end = version_ == 1 ? "" : encode(oldest_);
    return encode(version_) + body.substr(sizeof version_, body.size() - 2 * sizeof version_) + end;
  }

  std::uint32_t version_;
  std::uint32_t oldest_;
  std::string hidden_;
  UniqueFd listener_;
  UniqueFd stop_;
  std::vector<Pair> pairs_;
  std::thread thread_;
};

class MonitorVersions : public OciRuntimeTest {
 protected:
  /// A container whose monitor an earlier daemon left; the next one finds it as one of `version`.
  Recovered meet(StartRequest wanted, std::uint32_t version, std::uint32_t oldest) {
    id_ = wanted.id;
    auto again = recovery_of(wanted);
    auto started = start(std::move(wanted));
    again.pid = started.pid;
    again.start_time = started.start_time;
    monitor_ = monitor_pid(id_);
    runtime_.reset();
    other_ = std::make_unique<OtherBuild>(run_dir(id_), version, oldest);
    open_runtime();
    return must(runtime_->recover(std::move(again)));
  }
  std::string id_;
  int monitor_ = 0;
  std::unique_ptr<OtherBuild> other_;
};

TEST_F(MonitorVersions, one_of_the_version_before_is_spoken_to) {
  auto wanted = request({"sh", "-c", "read x; echo $x; exit 4"});
  wanted.open_stdin = wanted.stdin_once = true;
  auto recovered = meet(std::move(wanted), monitor_protocol_version - 1, 0);
  EXPECT_TRUE(recovered.running);
  EXPECT_FALSE(recovered.monitor_replaced);
  EXPECT_FALSE(observer_.was_told_of_monitor(id_));
  EXPECT_EQ(exec(id_, {"echo", "inside"}), "inside\n");
  auto attached = attachment(true, false);
  must(runtime_->attach(id_, std::move(attached.request)));
  must(linux::send_all(attached.ours.get(), "went in\n"));
  EXPECT_EQ(observer_.wait_exit(id_).code, 4);
  EXPECT_EQ(log_text(id_), "went in\n");
}

TEST_F(MonitorVersions, a_newer_one_that_still_speaks_ours_is_spoken_to) {
  EXPECT_TRUE(meet(request({"sleep", "1000"}), monitor_protocol_version + 1, monitor_protocol_version).running);
  EXPECT_FALSE(observer_.was_told_of_monitor(id_));
  EXPECT_EQ(exec(id_, {"echo", "inside"}), "inside\n");
}

TEST_F(MonitorVersions, an_unknown_newer_one_is_refused_while_its_container_runs_on) {
  auto recovered = meet(request({"sh", "-c", "echo begun; sleep 1000"}), monitor_protocol_version + 1, monitor_protocol_version + 1);
  EXPECT_TRUE(recovered.running);
  EXPECT_FALSE(recovered.monitor_replaced);
  EXPECT_THAT(observer_.wait_refusal(id_), HasSubstr(concat("its monitor speaks version ", monitor_protocol_version + 1)));
  EXPECT_THAT(exec(id_, {"echo", "inside"}), HasSubstr("its monitor speaks version"));
  auto attached = attachment(false, false);
  EXPECT_EQ(runtime_->attach(id_, std::move(attached.request)).error().kind(), ErrorKind::unsupported);
  // What needs no monitor goes on.
  EXPECT_FALSE(must(runtime_->processes(id_)).empty());
  must(runtime_->pause(id_));
  must(runtime_->resume(id_));
  EXPECT_GT(must(runtime_->stats(id_)).memory_usage_bytes, 0U);
  must(runtime_->kill(id_, 9));
  EXPECT_EQ(observer_.wait_exit(id_).code, 137) << "the monitor's note says how it ended";
}

TEST_F(MonitorVersions, a_refused_one_that_dies_is_replaced_by_one_of_ours) {
  EXPECT_TRUE(meet(request({"sleep", "1000"}), monitor_protocol_version + 1, monitor_protocol_version + 1).running);
  EXPECT_THAT(observer_.wait_refusal(id_), HasSubstr("speaks version"));
  kill_and_wait(monitor_);
  EXPECT_TRUE(observer_.wait_replaced(id_));
  EXPECT_EQ(exec(id_, {"echo", "inside"}), "inside\n");
}

}  // namespace
}  // namespace caisson::runtime
