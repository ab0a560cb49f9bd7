#include "runtime/oci_cli.hpp"
namespace caisson::runtime { int run_oci_command(const std::vector<std::string>&) { return 1; } }
