// Fuzzes the addresses of git repositories, which Dockerfiles and command lines give.
#include "dockerfile/git_url.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  if (!dockerfile::is_git_url(text)) return 0;
  const auto source = dockerfile::parse_git_url(text);
  if (!source.ok()) return 0;
  fuzz::demand(source->is_ssh || source->repository.find("://") != std::string::npos, "git is given an address, never a path");
  fuzz::demand(!source->repository.starts_with('-'), "an address is no option");
  if (source->is_ssh) {
    const auto host = dockerfile::ssh_host(*source);
    fuzz::demand(!host.empty() && !host.starts_with('-'), "ssh is given a host, never an option");
    const auto user = source->repository.find("://") == std::string::npos ? source->repository : source->repository.substr(source->repository.find("://") + 3);
    fuzz::demand(!user.starts_with('-'), "nor is the user one");
  }
  fuzz::demand(!source->ref.starts_with('-'), "a ref is no option");
  fuzz::demand(source->subfolder != ".." && !source->subfolder.starts_with('/') && !source->subfolder.starts_with("../"), "a folder does not lead out");
  return 0;
}
