// caisson-registry: serves images to any client, without any right on this host.
#include <string>
#include <vector>

#include "registry/main.hpp"

int main(int argc, char** argv) { return caisson::registry::registry_main(std::vector<std::string>(argv + 1, argv + argc)); }
