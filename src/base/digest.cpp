// Digest grammar, free of OpenSSL so that caisson-runtime does not link it.
#include "base/digest.hpp"

#include "base/strings.hpp"

namespace caisson {

Result<Digest> Digest::parse(std::string_view text) {
  auto halves = split_once(text, ':');
  std::size_t length = halves.before == "sha256" ? 64 : halves.before == "sha512" ? 128 : 0;
  if (length == 0)
    return Error(ErrorKind::invalid, concat("invalid digest \"", text, "\": unknown algorithm (sha256 and sha512 are known)"));
  if (halves.after.size() != length || halves.after.find_first_not_of("0123456789abcdef") != std::string_view::npos)
    return Error(ErrorKind::invalid, concat("invalid digest \"", text, "\": want ", length, " lower-case hex digits"));
  Digest digest;
  digest.text_ = text;
  return digest;
}

Digest Digest::from_hash(DigestAlgorithm algorithm, std::span<const std::uint8_t> hash) {
  Digest digest;
  digest.text_ = concat(algorithm == DigestAlgorithm::sha256 ? "sha256:" : "sha512:", to_hex(hash));
  return digest;
}

}  // namespace caisson
