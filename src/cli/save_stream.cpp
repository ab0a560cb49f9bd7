// Written beside the target and renamed.
#include "cli/save_stream.hpp"

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

Status copy_stream(wire::Client& client, int target_fd) {
  for (;;) {
    std::string piece = TRY(client.read_some(), "read the archive");
    if (piece.empty()) return {};
    TRY(linux::write_all(target_fd, piece), "write the archive");
  }
}

Status save_stream(wire::Client& client, const std::string& output) {
  constexpr int standard_output = 1;
  if (output.empty()) return copy_stream(client, standard_output);
  const std::string temporary = concat(output, ".", now_ns(), ".tmp");
  auto file = TRY_PLAIN(linux::open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
  auto done = copy_stream(client, file.get());
  if (done.ok()) done = linux::rename(temporary, output);
  if (!done.ok()) ignore(linux::unlink(temporary));  // the first error is the one to tell
  return done;
}

}  // namespace caisson::cli
