// OciRuntime: containers by namespaces, through a launcher process and one monitor per container.
#pragma once

#include <memory>
#include <string>

#include "runtime/launcher_starter.hpp"
#include "runtime/runtime.hpp"

namespace caisson::runtime {

struct OciOptions {
  std::shared_ptr<LauncherStarter> starter;  ///< of launchers: the first, and another when one dies
};

/// Starts the launcher and the event thread. `observer` is borrowed and must outlive the Runtime; it is called from the
/// event thread. Privilege: root (CAP_SYS_ADMIN) for everything the interface promises.
/// Errors: unsupported (launcher of another build), unavailable.
Result<std::unique_ptr<Runtime>> create_oci_runtime(const OciOptions& options, RuntimeObserver& observer);

}  // namespace caisson::runtime
