// image sign, image verify, image generate-key: keys stay on this side, the daemon speaks to the registry.
#include <array>
#include <optional>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/ask.hpp"
#include "cli/attachments.hpp"
#include "cli/commands.hpp"
#include "cli/keys.hpp"
#include "cli/registry.hpp"
#include "cli/request.hpp"
#include "linux/file.hpp"
#include "linux/terminal.hpp"
#include "trust/bundle.hpp"
#include "trust/notation.hpp"
#include "trust/policy.hpp"
#include "trust/simple_signing.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t most_pem_bytes = 1 << 20;
constexpr std::array<std::pair<std::string_view, KeyKind>, 4> key_types{{
    {"ecdsa-p256", KeyKind::p256}, {"ecdsa-p384", KeyKind::p384}, {"ed25519", KeyKind::ed25519}, {"rsa", KeyKind::rsa}}};

/// A passphrase's file may end its line.
Result<std::string> read_passphrase_file(std::string_view path) {
  auto text = TRY(linux::read_file(std::string(path), most_password_bytes), concat("passphrase ", path));
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return text;
}

struct Target {
  image::Reference reference;  ///< as the user named it
  trust::NotationTarget content;
  [[nodiscard]] std::string by_digest() const { return concat(reference.repository(), "@", content.digest.text()); }
};

/// The name becomes a digest here, once; everything behind it is about that digest.
Result<Target> resolve(Session& session, const std::string& name, const wire::Headers& headers, const image::Reference& reference) {
  auto reply = TRY_PLAIN(session.call("GET", object_path("distribution", reference.canonical(), "json"), nullptr, headers));
  auto document = TRY_PLAIN(parse_json(reply.body, "the daemon's answer"));
  auto descriptor = TRY_PLAIN(JsonView(document).at("Descriptor"));
  Target target;
  target.reference = reference;
  std::string digest;
  TRY_PLAIN(descriptor.read("digest", digest));
  TRY_PLAIN(descriptor.read("mediaType", target.content.media_type));
  TRY_PLAIN(descriptor.read("size", target.content.size_bytes));
  target.content.digest = TRY(Digest::parse(digest), concat("digest of ", name));
  return target;
}

/// A tag is part of what is said; without one, the repository is.
std::string identity_of(const Invocation& invocation, const Target& target) {
  if (invocation.has("identity")) return std::string(invocation.text("identity"));
  return target.reference.tag.empty() ? target.reference.repository() : concat(target.reference.repository(), ":", target.reference.tag);
}

Result<json::object> make_signature(const Invocation& invocation, const trust::PrivateKey& key, const Target& target) {
  const auto format = invocation.text("format");
  const auto identity = identity_of(invocation, target);
  TRY(parse_reference(identity), concat("--identity ", identity));
  std::string document;
  std::string signature;
  if (format == "cosign") {
    document = trust::write_simple_signing({target.content.digest, identity});
    signature = TRY_PLAIN(key.sign(trust::sigstore_algorithm(key.kind()), document));
  } else if (format == "bundle") {
    document = TRY_PLAIN(trust::write_bundle(key, TRY_PLAIN(trust::write_statement(target.content.digest, identity, trust::sign_predicate, ""))));
  } else if (format == "notation") {
    const auto path = std::string(invocation.text("certificate-chain"));
    if (path.empty()) return Error(ErrorKind::invalid, "--format notation needs --certificate-chain: the certificate of the key, then those above it");
    const auto chain = TRY(linux::read_file(path, most_pem_bytes), concat("certificates ", path));
    const auto expiry = invocation.has("expiry") ? now_ns() + invocation.duration_ns("expiry") : 0;
    document = TRY(trust::write_notation(key, chain, target.content, now_ns(), expiry), concat("certificates ", path));
  } else {
    return Error(ErrorKind::invalid, concat("invalid argument \"", format, "\" for \"--format\" flag: it can be cosign, bundle or notation"));
  }
  return json::object{{"format", format}, {"document", base64_encode(document)}, {"signature", base64_encode(signature)}};
}

json::array paths_of(const Invocation& invocation, std::string_view flag, Result<std::string> (*read)(const std::string&), Status& status) {
  json::array out;
  for (const auto& path : invocation.list(flag)) {
    auto text = read(path);
    if (!text.ok() && status.ok()) status = std::move(text).error();
    if (text.ok()) out.emplace_back(base64_encode(*text));
  }
  return out;
}

Result<std::string> read_pem(const std::string& path) { return TRY(linux::read_file(path, most_pem_bytes), path); }

/// In a policy's words; keys are read here, where the user has named them. Null: the daemon's policy.
Result<json::value> requirements_of(const Invocation& invocation) {
  Status status;
  auto keys = paths_of(invocation, "key", read_pem, status);
  auto roots = paths_of(invocation, "ca", read_pem, status);
  if (!status.ok()) return std::move(status).error();
  json::array requirements;
  if (!keys.empty()) requirements.push_back(json::object{{"type", "sigstoreSigned"}, {"keyDatas", std::move(keys)}});
  if (!roots.empty()) {
    auto signers = invocation.list("signer");
    if (signers.empty()) signers.emplace_back("*");
    requirements.push_back(json::object{{"type", "notationSigned"}, {"caDatas", std::move(roots)}, {"trustedIdentities", texts(signers)}});
  } else if (invocation.has("signer")) {
    return Error(ErrorKind::invalid, "--signer needs --ca");
  }
  if (requirements.empty()) return json::value();
  return json::value(json::object{{"requirements", std::move(requirements)}, {"anyIdentity", true}});
}

Result<std::string> new_passphrase(Session& session, const Invocation& invocation) {
  if (invocation.has("passphrase-file")) return read_passphrase_file(invocation.text("passphrase-file"));
  if (!linux::is_terminal(0))
    return Error(ErrorKind::invalid, "a passphrase cannot be asked for: standard input is no terminal").with_hint("use --passphrase-file FILE; with an empty file the key is not encrypted");
  auto passphrase = TRY(ask_secret(session.err(), "Passphrase (empty: the key is not encrypted): "), "passphrase");
  if (passphrase != TRY(ask_secret(session.err(), "The same again: "), "passphrase")) return Error(ErrorKind::invalid, "the two passphrases differ");
  return passphrase;
}

/// Never over a file that is there: it may be the only copy of a key.
Status write_new(const std::string& path, std::string_view text, mode_t mode) {
  auto file = TRY(linux::open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode), concat("write ", path));
  TRY(linux::write_all(file.get(), text), concat("write ", path));
  return {};
}

}  // namespace

Result<trust::PrivateKey> read_private_key(Session& session, const std::string& path, const Invocation& invocation) {
  const auto pem = TRY(linux::read_file(path, most_pem_bytes), concat("key ", path));
  std::string passphrase;
  if (trust::is_encrypted_key(pem))
    passphrase = invocation.has("passphrase-file") ? TRY_PLAIN(read_passphrase_file(invocation.text("passphrase-file")))
                                                   : TRY(ask_secret(session.err(), concat("Passphrase of ", path, ": ")), "passphrase (--passphrase-file gives it without a terminal)");
  return TRY(trust::PrivateKey::parse(pem, passphrase), concat("key ", path));
}

Result<std::vector<PublicKey>> read_public_keys(const std::vector<std::string>& paths) {
  std::vector<PublicKey> keys;
  for (const auto& path : paths) keys.push_back(TRY(PublicKey::parse(TRY_PLAIN(read_pem(path))), concat("key ", path)));
  return keys;
}

Result<int> generate_key(Session& session, const Invocation& invocation) {
  const auto type = invocation.text("type");
  std::optional<KeyKind> kind;
  for (const auto& [name, known] : key_types)
    if (name == type) kind = known;
  if (!kind) return Error(ErrorKind::invalid, concat("invalid argument \"", type, "\" for \"--type\" flag: it can be ecdsa-p256, ecdsa-p384, ed25519 or rsa"));
  const auto prefix = std::string(invocation.text("output-prefix"));
  for (const char* suffix : {".key", ".pub"})
    if (TRY_PLAIN(linux::exists(prefix + suffix))) return Error(ErrorKind::conflict, concat(prefix, suffix, " is there already, and keys are not overwritten"));
  auto passphrase = TRY_PLAIN(new_passphrase(session, invocation));
  auto key = TRY_PLAIN(trust::PrivateKey::generate(*kind));
  TRY_PLAIN(write_new(prefix + ".key", TRY_PLAIN(key.pem(passphrase)), 0600));
  TRY_PLAIN(write_new(prefix + ".pub", TRY_PLAIN(key.public_pem()), 0644));
  if (passphrase.empty()) session.err().line(concat("WARNING! ", prefix, ".key is not encrypted: whoever reads it can sign."));
  session.out().line(concat("Private key: ", prefix, ".key"));
  session.out().line(concat("Public key: ", prefix, ".pub"));
  return 0;
}

Result<int> sign_image(Session& session, const Invocation& invocation) {
  const auto& name = invocation.word(0);
  auto reference = TRY_PLAIN(parse_reference(name));
  auto headers = TRY_PLAIN(auth_headers(session, reference));
  const auto key_path = std::string(invocation.text("key"));
  if (key_path.empty()) return Error(ErrorKind::invalid, "--key is missing").with_hint("make a pair of keys with: caisson image generate-key");
  auto key = TRY_PLAIN(read_private_key(session, key_path, invocation));
  auto target = TRY_PLAIN(resolve(session, name, headers, reference));
  const json::value body(TRY_PLAIN(make_signature(invocation, key, target)));
  TRY_PLAIN(session.call("POST", object_path("caisson/v1/images", target.by_digest(), "signatures"), &body, headers));
  session.out().line(target.by_digest());
  return 0;
}

Result<int> verify_image(Session& session, const Invocation& invocation) {
  const auto format = invocation.text("format");
  if (format != "json" && format != "table") return Error(ErrorKind::invalid, concat("invalid argument \"", format, "\" for \"--format\" flag: it can be table or json"));
  if (invocation.has("attestation")) return verify_attestation(session, invocation);
  auto reference = TRY_PLAIN(parse_reference(invocation.word(0)));
  auto headers = TRY_PLAIN(auth_headers(session, reference));
  auto body = TRY_PLAIN(requirements_of(invocation));
  auto reply = TRY_PLAIN(session.call("POST", object_path("caisson/v1/images", reference.canonical(), "verify"), body.is_null() ? nullptr : &body, headers));
  auto document = TRY_PLAIN(parse_json(reply.body, "the daemon's answer"));
  if (format == "json") {
    session.out().line(to_text(document));
    return 0;
  }
  JsonView answer(document);
  std::string digest;
  std::string policy;
  std::string scope;
  std::vector<std::string> reasons;
  TRY_PLAIN(answer.read("digest", digest));
  TRY_PLAIN(answer.read("policy", policy));
  TRY_PLAIN(answer.read("scope", scope));
  TRY_PLAIN(answer.read("reasons", reasons));
  session.out().line(concat(reference.repository(), "@", digest, " passes ", policy, ", scope ", scope));
  for (const auto& reason : reasons) session.out().line(concat("  ", reason));
  return 0;
}

}  // namespace caisson::cli
