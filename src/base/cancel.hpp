// Cancel: how a caller that may go away tells a long wait to stop.
#pragma once

namespace caisson {

/// A borrowed descriptor that becomes readable or hangs up when the caller is gone (a client's socket watched for
/// POLLRDHUP, or an eventfd). -1: never cancelled. Long waits poll it beside what they wait for.
struct Cancel {
  int fd = -1;
};

}  // namespace caisson
