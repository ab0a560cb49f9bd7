// Fuzzes the addresses of git repositories, which Dockerfiles and command lines give.
#include "dockerfile/git_url.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  if (!dockerfile::is_git_url(text)) return 0;
  const auto source = dockerfile::parse_git_url(text);
  if (!source.ok()) return 0;
  fuzz::demand(source->repository.find("://") != std::string::npos, "git is given an address, never a path");
  fuzz::demand(!source->ref.starts_with('-'), "a ref is no option");
  fuzz::demand(source->subfolder != ".." && !source->subfolder.starts_with('/') && !source->subfolder.starts_with("../"), "a folder does not lead out");
  return 0;
}
