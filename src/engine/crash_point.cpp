// Crash points: a test sets CAISSON_CRASH_AT=start:launched and the process kills itself there, as kill -9 would.
#include <string_view>

#include "engine/local_engine.hpp"
#include "base/environment.hpp"
#include "engine/signals.hpp"
#include "linux/process.hpp"

namespace caisson::engine {

void crash_point([[maybe_unused]] std::string_view name) {
#ifndef NDEBUG
  const char* wanted = environment("CAISSON_CRASH_AT");  // only in builds with assertions
  if (wanted != nullptr && name == wanted) ignore(linux::kill(linux::getpid(), signal_kill));
#endif
}

}  // namespace caisson::engine
