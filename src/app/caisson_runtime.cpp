// caisson-runtime: the OCI runtime, the daemon's launcher and monitors, and the containers' init, in one static binary.
#include <string>
#include <string_view>
#include <vector>

#include "runtime/container_init.hpp"
#include "runtime/launcher_starter.hpp"
#include "runtime/oci_cli.hpp"

int main(int argc, char** argv) {
  // Inside a container: nothing of the host may be touched from here on.
  if (argc > 0 && std::string_view(argv[0]) == "/dev/init") return caisson::runtime::run_container_init(argc, argv);
  if (argc > 1 && std::string_view(argv[1]) == "starter") return caisson::runtime::run_launcher_starter();
  return caisson::runtime::run_oci_command(std::vector<std::string>(argv + 1, argv + argc));
}
