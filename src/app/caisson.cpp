// The command line program.
#include <string>
#include <vector>

#include "cli/main.hpp"

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  return caisson::cli::run_command_line(words);
}
