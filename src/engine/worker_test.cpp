// The background threads: what runs, what is refused, and when.
#include "engine/worker.hpp"

#include <gtest/gtest.h>

#include <future>

namespace caisson::engine {
namespace {

TEST(Worker, tasks_wait_for_the_start_and_run_in_the_order_of_their_time) {
  std::vector<int> order;
  std::promise<void> last;
  Worker worker;
  EXPECT_TRUE(worker.post_after(20, [&] {
    order.push_back(2);
    last.set_value();
  }));
  EXPECT_TRUE(worker.post([&] { order.push_back(1); }));
  EXPECT_TRUE(order.empty());
  worker.start(1);
  last.get_future().wait();
  worker.finish();
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
}

TEST(Worker, what_is_due_runs_before_the_end_and_what_it_posts_too) {
  Worker worker;
  std::promise<void> finishing;
  bool inner_ran = false;
  bool later_was_accepted = true;
  EXPECT_TRUE(worker.post([&] {
    finishing.get_future().wait();
    // finish() may or may not have been seen by now; either way this one must run.
    EXPECT_TRUE(worker.post([&] { inner_ran = true; }));
  }));
  worker.start(2);
  std::thread ender([&] {
    finishing.set_value();
    worker.finish();
  });
  ender.join();
  later_was_accepted = worker.post_after(1, [] {});
  EXPECT_TRUE(inner_ran);
  EXPECT_FALSE(later_was_accepted);
}

TEST(Worker, a_task_after_the_end_is_refused_not_forgotten) {
  bool ran = false;
  {
    Worker worker;
    worker.start(1);
    worker.finish();
    EXPECT_FALSE(worker.post([&] { ran = true; }));
  }
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace caisson::engine
