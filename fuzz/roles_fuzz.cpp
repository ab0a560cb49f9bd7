// Fuzzes roles.toml: whatever a file says, nobody gets a role that it does not name, and no grant leaves the folder it is written for.
#include "fuzz/fuzz.hpp"
#include "policy/policy.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const policy::Accounts accounts{"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n", "dev:x:2000:alice\n"};
  auto parsed = policy::Policy::parse(fuzz::text_of(data, size), "roles.toml", accounts, 0, policy::built_in("none"));
  if (!parsed.ok()) {
    fuzz::demand(parsed.error().text().starts_with("roles.toml"), "an error names the file");
    return 0;
  }
  policy::Peer peer;
  for (const bool is_unix : {true, false}) {
    peer.is_unix = is_unix;
    peer.uid = peer.gid = is_unix ? 1000 : 65534;
    const auto identity = parsed->judge(peer);
    fuzz::demand(identity.role != nullptr, "everybody has a role, if only none");
    if (!identity.role->bounds) continue;
    for (const auto& grant : identity.role->bounds->binds) {
      fuzz::demand(grant.path.starts_with('/') && grant.path.find("/../") == std::string::npos && !grant.path.ends_with("/.."), "a grant is a clean path");
      const auto* found = policy::grant_for(*identity.role->bounds, grant.path + "/x");
      fuzz::demand(found != nullptr && found->path.size() >= grant.path.size(), "a grant covers what is below it");
    }
  }
  policy::Peer stranger = peer;
  stranger.is_elsewhere = true;
  stranger.token = "x";
  const auto identity = parsed->judge(stranger);
  fuzz::demand(identity.role != nullptr, "a stranger has a role");
  return 0;
}
