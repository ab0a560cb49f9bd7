// What the image store and its fetch process, which alone speaks to registries, say to each other.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/codec.hpp"
#include "base/result.hpp"

namespace caisson::image {

/// The descriptor of the fetch process on which frames (frames.hpp) go both ways: a unix stream socket.
inline constexpr int fetch_channel_fd = 3;

/// As X-Registry-Auth carries them, and as `docker login` stores them.
struct RegistryCredentials {
  std::string username;
  std::string password;
  std::string identity_token;  ///< an OAuth2 refresh token
  std::string registry_token;  ///< a bearer token, used as it is
  [[nodiscard]] bool empty() const { return username.empty() && identity_token.empty() && registry_token.empty(); }
};
template <class C>
void visit(C& c, RegistryCredentials& r) {
  c(r.username);
  c(r.password);
  c(r.identity_token);
  c(r.registry_token);
}

/// One server that may have what is asked for.
struct RegistryEndpoint {
  std::string url;  ///< with the API's root: "https://registry-1.docker.io/v2"
  bool is_origin = true;         ///< the registry itself, not a mirror of it; only it gets the credentials
  bool can_resolve = true;       ///< tags may be asked for here
  bool can_push = true;
  bool skip_verify = false;      ///< accept any certificate
  std::string ca_pem;            ///< "": the system's
  std::string client_certificate_pem;
  std::string client_key_pem;
  std::map<std::string, std::string> headers;
};
template <class C>
void visit(C& c, RegistryEndpoint& e) {
  c(e.url);
  c(e.is_origin);
  c(e.can_resolve);
  c(e.can_push);
  c(e.skip_verify);
  c(e.ca_pem);
  c(e.client_certificate_pem);
  c(e.client_key_pem);
  c(e.headers);
}

/// How long to be patient. Mirrors get less, so that a dead one costs little.
struct FetchPatience {
  std::uint32_t connect_timeout_ms = 10'000;
  std::uint32_t mirror_connect_timeout_ms = 3'000;
  std::uint32_t stall_timeout_ms = 30'000;   ///< nothing arrived for so long: the connection is given up
  std::uint32_t attempts = 5;                ///< in a row without any progress
  std::uint32_t first_pause_ms = 250;        ///< doubled after each attempt, with jitter
  std::uint32_t longest_pause_ms = 20'000;   ///< also for what Retry-After asks
};
template <class C>
void visit(C& c, FetchPatience& p) {
  c(p.connect_timeout_ms);
  c(p.mirror_connect_timeout_ms);
  c(p.stall_timeout_ms);
  c(p.attempts);
  c(p.first_pause_ms);
  c(p.longest_pause_ms);
}

/// The first frame: whom all requests of this process are for. A request may name another repository of the same registry.
struct FetchSession {
  std::string repository;                   ///< "library/alpine"; "" for login and search
  std::string actions = "pull";             ///< of the token's scope: "pull" or "pull,push"
  std::vector<RegistryEndpoint> endpoints;  ///< in the order in which they are tried
  RegistryCredentials credentials;
  FetchPatience patience;
  std::string user_agent;
};
template <class C>
void visit(C& c, FetchSession& s) {
  c(s.repository);
  c(s.actions);
  c(s.endpoints);
  c(s.credentials);
  c(s.patience);
  c(s.user_agent);
}

enum class FetchTask : std::uint8_t {
  manifest,      ///< name: tag or digest → body, media_type, digest
  blob,          ///< name: digest; from `offset` to `size_bytes` into the descriptor that came with it, at its place there
  tags,          ///< → body: a JSON array of texts
  has_blob,      ///< name: digest → found
  upload,        ///< name: digest; `size_bytes` of the descriptor that came with it (none came: only mounts); mount_from: repositories to mount from
  put_manifest,  ///< name: tag or digest, media_type, body, if_match → digest, subject
  login,         ///< → identity_token in body, if the registry gave one
  search,        ///< name: a URL below the first endpoint, of a search or any document → body
  post,          ///< body and media_type to the first endpoint itself; any 2xx is success
  referrers,     ///< name: digest, media_type: of artifacts, "" for all → found: it lists them; body: a JSON array of descriptors
  exchange,      ///< one HTTP request of the asker's own making, once: `method` and `name` (a path with its query) to the first endpoint, with `headers` and no
                 ///< other authorization → status, headers, body. With a descriptor: of a PUT its bytes are the body, `size_bytes` from `offset` on; of a GET
                 ///< the body of a success goes to its start, `size_bytes` at most. Redirects are not followed
  range,         ///< name: digest; `size_bytes` from `offset` on go to the start of the descriptor that came with it. Unsupported by servers that know no ranges
};

struct FetchRequest {
  std::uint64_t number = 0;
  FetchTask task = FetchTask::manifest;
  std::string repository;  ///< "": the session's
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;
  std::string media_type;
  std::string body;
  std::vector<std::string> mount_from;
  std::string if_match;    ///< put_manifest: only over what has this entity tag; "": over anything
  std::string method;                ///< exchange
  std::vector<std::string> headers;  ///< exchange: "Name: value"
  bool has_fd = false;
};
template <class C>
void visit(C& c, FetchRequest& r) {
  c(r.number);
  c(r.task);
  c(r.repository);
  c(r.name);
  c(r.offset);
  c(r.size_bytes);
  c(r.media_type);
  c(r.body);
  c(r.mount_from);
  c(r.if_match);
  c(r.method);
  c(r.headers);
  c(r.has_fd);
}

struct FetchReply {
  std::uint64_t number = 0;
  bool ok = false;
  ErrorKind kind = ErrorKind::internal;  ///< of a failure
  std::string text;
  std::string code;          ///< the registry's own, such as MANIFEST_UNKNOWN
  std::string media_type;
  std::string digest;        ///< as the registry says
  std::string body;
  std::string etag;          ///< manifest: the entity tag for a later if_match; "": the registry gives none
  std::string subject;       ///< put_manifest: the digest that the registry lists it under as a referrer; "": it lists none
  bool found = false;        ///< has_blob; upload: it was there already; referrers
  std::string mounted_from;  ///< upload: no bytes travelled, another repository had them
  std::uint32_t status = 0;  ///< exchange
  std::map<std::string, std::string> headers;  ///< exchange: names in lower case
};
template <class C>
void visit(C& c, FetchReply& r) {
  c(r.number);
  c(r.ok);
  c(r.kind);
  c(r.text);
  c(r.code);
  c(r.media_type);
  c(r.digest);
  c(r.body);
  c(r.etag);
  c(r.subject);
  c(r.found);
  c(r.mounted_from);
  c(r.status);
  c(r.headers);
}

/// Bytes of a blob that lie in the file now (from its start), or that the registry has taken.
struct FetchProgress {
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
};
template <class C>
void visit(C& c, FetchProgress& p) {
  c(p.number);
  c(p.bytes);
}

enum class FetchFrame : std::uint8_t {
  session = 1,   ///< to the process, once, first
  request = 2,   ///< to the process; a descriptor may travel with it
  cancel = 3,    ///< to the process; payload: u64 number. It is still answered
  progress = 4,  ///< from the process
  reply = 5,     ///< from the process; the last frame of a number
};
/// Manifests and token answers are bounded in the fetch process; this is above all of them.
inline constexpr std::size_t most_fetch_frame_bytes = 32 << 20;
/// The distribution specification asks for 4 MiB.
inline constexpr std::size_t most_manifest_bytes = 4 << 20;
/// Tag lists and searches.
inline constexpr std::size_t most_listing_bytes = 16 << 20;

}  // namespace caisson::image
