// What the administrator has set up: registry.toml and the command line's flags over it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "registry/access.hpp"
#include "wire/tls.hpp"

namespace caisson::registry {

struct TokenConfig {
  std::string realm;
  std::string service;
  std::string issuer;
  std::vector<std::string> key_files;
};
struct EventConfig {
  std::string name;
  std::string url;
  std::map<std::string, std::string> headers;
  std::vector<std::string> actions;
};
struct ProxyConfig {
  std::string prefix;
  std::string upstream;  ///< "docker.io", "registry.example:5000"
  std::string username;
  std::string password_file;
  std::int64_t fresh_ns = 300'000'000'000;
};

/// Blobs in a bucket instead of the folder.
struct S3Config {
  std::string endpoint;
  std::string region = "us-east-1";
  std::string bucket;
  std::string prefix;             ///< "" or ending in "/"
  std::string addressing = "path";  ///< or "host": the bucket in front of the endpoint's host
  std::string credentials_file;   ///< as the AWS command line has it; "": the environment
  std::string profile = "default";
  std::string ca_file;            ///< "": the system's
  bool signs_payload = true;
  bool redirects = false;
  std::uint64_t part_bytes = 16 << 20;
  std::uint64_t cache_bytes = 10ULL << 30;
};

struct Config {
  std::string root;
  std::vector<std::string> listen{"127.0.0.1:5000"};
  std::string metrics_listen;       ///< "": the admin socket only
  std::string user;                 ///< "UID[:GID]" or a name; "": one of our own
  bool allow_plain_http = false;    ///< beyond loopback without TLS
  bool is_read_only = false;
  bool logs_requests = false;
  wire::TlsFiles tls;               ///< certificate "": no TLS
  std::string realm = "Caisson registry";
  std::string htpasswd_file;
  std::optional<TokenConfig> token;
  std::vector<AccessRule> rules;
  std::uint64_t total_quota_bytes = 0;
  std::uint64_t repository_quota_bytes = 0;
  std::map<std::string, std::uint64_t> quotas;
  std::int64_t clean_up_every_ns = 24LL * 3600 * 1'000'000'000;  ///< 0: only when asked
  std::int64_t grace_ns = 3600LL * 1'000'000'000;
  std::int64_t upload_age_ns = 24LL * 3600 * 1'000'000'000;
  bool removes_untagged = false;
  std::vector<EventConfig> events;
  std::vector<ProxyConfig> proxies;
  std::optional<S3Config> s3;
  std::string fetch_path;                  ///< the caisson-fetch binary; "": beside this one
  std::vector<std::string> insecure;       ///< other registries without certificates
  std::string hosts_dir = "/etc/caisson/certs.d";
};

/// registry.toml over the defaults. Errors: invalid, naming the key; an unknown key is one.
Result<Config> parse_config(std::string_view text);
/// What contradicts itself or is missing. Errors: invalid, denied (plain HTTP beyond loopback).
Status check_config(const Config& config);

}  // namespace caisson::registry
