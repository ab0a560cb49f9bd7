// Reading registry.toml: one table of keys per section, and no key that is not in it.
#include "registry/config.hpp"

#include <algorithm>
#include <functional>

#include "base/reference.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "base/toml.hpp"
#include "registry/s3_keys.hpp"

namespace caisson::registry {

namespace {

Error bad(std::string_view key, std::string_view why) { return {ErrorKind::invalid, concat(key, ": ", why)}; }

Status take(const toml::node& node, std::string_view key, std::string& out) {
  if (auto value = node.value_exact<std::string>()) out = *value;
  else return bad(key, "want a text");
  return {};
}
Status take(const toml::node& node, std::string_view key, bool& out) {
  if (auto value = node.value_exact<bool>()) out = *value;
  else return bad(key, "want true or false");
  return {};
}
Status take(const toml::node& node, std::string_view key, std::vector<std::string>& out) {
  const auto* list = node.as_array();
  if (list == nullptr) return bad(key, "want a list of texts");
  out.clear();
  for (const auto& element : *list) TRY_PLAIN(take(element, key, out.emplace_back()));
  return {};
}
/// "10GB" or a number of bytes.
Status take_size(const toml::node& node, std::string_view key, std::uint64_t& out) {
  std::int64_t bytes = 0;
  if (auto number = node.value_exact<std::int64_t>()) bytes = *number;
  else if (auto text = node.value_exact<std::string>()) bytes = TRY(parse_size_bytes(*text), key);
  else return bad(key, "want a size, such as \"10GB\"");
  if (bytes < 0) return bad(key, "must not be negative");
  out = static_cast<std::uint64_t>(bytes);
  return {};
}
Status take_duration(const toml::node& node, std::string_view key, std::int64_t& out) {
  auto text = node.value_exact<std::string>();
  if (!text) return bad(key, "want a duration, such as \"24h\"");
  out = TRY(parse_duration_ns(*text), key);
  if (out < 0) return bad(key, "must not be negative");
  return {};
}

using Reader = std::function<Status(const toml::node&, std::string_view key)>;

/// Every member by its reader; others are refused.
Status read_table(const toml::node& node, const std::string& path, const std::map<std::string_view, Reader>& readers) {
  const auto* table = node.as_table();
  if (table == nullptr) return bad(path, "want a table");
  for (const auto& [name, value] : *table) {
    const auto found = readers.find(name.str());
    const auto key = path.empty() ? std::string(name.str()) : concat(path, ".", name.str());
    if (found == readers.end()) return bad(key, "unknown key");
    TRY_PLAIN(found->second(value, key));
  }
  return {};
}

template <typename T>
Reader into(T& out) {
  return [&out](const toml::node& node, std::string_view key) { return take(node, key, out); };
}
Reader size_into(std::uint64_t& out) {
  return [&out](const toml::node& node, std::string_view key) { return take_size(node, key, out); };
}
Reader duration_into(std::int64_t& out) {
  return [&out](const toml::node& node, std::string_view key) { return take_duration(node, key, out); };
}
Reader table_of(std::map<std::string_view, Reader> readers) {
  return [readers = std::move(readers)](const toml::node& node, std::string_view key) { return read_table(node, std::string(key), readers); };
}
/// [[key]]: `read` fills one element.
template <typename T>
Reader list_of(std::vector<T>& out, std::function<Status(const toml::node&, const std::string& path, T&)> read) {
  return [&out, read = std::move(read)](const toml::node& node, std::string_view key) -> Status {
    const auto* list = node.as_array();
    if (list == nullptr) return bad(key, concat("want tables: [[", key, "]]"));
    for (const auto& element : *list) TRY_PLAIN(read(element, std::string(key), out.emplace_back()));
    return {};
  };
}

Status read_texts(const toml::node& node, std::string_view key, std::map<std::string, std::string>& out) {
  const auto* table = node.as_table();
  if (table == nullptr) return bad(key, "want a table of texts");
  for (const auto& [name, value] : *table) TRY_PLAIN(take(value, concat(key, ".", name.str()), out[std::string(name.str())]));
  return {};
}

Status read_rule(const toml::node& node, const std::string& path, AccessRule& out) {
  std::vector<std::string> rights;
  TRY_PLAIN(read_table(node, path, {{"repositories", into(out.repositories)}, {"users", into(out.users)}, {"rights", into(rights)}}));
  for (const auto& right : rights) out.rights.push_back(TRY(parse_right(right), concat(path, ".rights")));
  if (out.users.empty() || out.rights.empty()) return bad(path, "a rule needs users and rights");
  return {};
}

Status read_event(const toml::node& node, const std::string& path, EventConfig& out) {
  return read_table(node, path,
                    {{"name", into(out.name)}, {"url", into(out.url)}, {"actions", into(out.actions)},
                     {"headers", [&out](const toml::node& value, std::string_view key) { return read_texts(value, key, out.headers); }}});
}

Status read_proxy(const toml::node& node, const std::string& path, ProxyConfig& out) {
  return read_table(node, path,
                    {{"prefix", into(out.prefix)}, {"upstream", into(out.upstream)}, {"username", into(out.username)}, {"password_file", into(out.password_file)},
                     {"fresh", duration_into(out.fresh_ns)}});
}

Status read_token(const toml::node& node, std::string_view key, std::optional<TokenConfig>& out) {
  auto& token = out.emplace();
  return read_table(node, std::string(key), {{"realm", into(token.realm)}, {"service", into(token.service)}, {"issuer", into(token.issuer)}, {"keys", into(token.key_files)}});
}

Status read_s3(const toml::node& node, std::string_view key, std::optional<S3Config>& out) {
  auto& s3 = out.emplace();
  return read_table(node, std::string(key),
                    {{"endpoint", into(s3.endpoint)}, {"region", into(s3.region)}, {"bucket", into(s3.bucket)}, {"prefix", into(s3.prefix)}, {"addressing", into(s3.addressing)},
                     {"credentials_file", into(s3.credentials_file)}, {"profile", into(s3.profile)}, {"ca_file", into(s3.ca_file)}, {"sign_payload", into(s3.signs_payload)},
                     {"redirect", into(s3.redirects)}, {"part", size_into(s3.part_bytes)}, {"cache", size_into(s3.cache_bytes)}});
}

Status check_s3(const S3Config& s3) {
  constexpr std::uint64_t least_part = 5 << 20;  // S3, "Multipart upload limits"
  constexpr std::uint64_t most_part = 5ULL << 30;
  if (s3.addressing != "path" && s3.addressing != "host") return bad("storage.s3.addressing", "want \"path\" or \"host\"");
  if (!s3.prefix.empty() && !is_repository_path(std::string_view(s3.prefix).substr(0, s3.prefix.size() - 1))) return bad("storage.s3.prefix", "want lower-case words between slashes");
  if (!s3.prefix.empty() && !s3.prefix.ends_with('/')) return bad("storage.s3.prefix", "must end in \"/\"");
  if (s3.part_bytes < least_part || s3.part_bytes > most_part) return bad("storage.s3.part", "must be 5MiB to 5GiB");
  if (!s3.signs_payload && !s3.endpoint.starts_with("https://")) return bad("storage.s3.sign_payload", "without TLS nothing else protects what is sent");
  TRY(s3_base_url(s3_settings(s3)), "storage.s3");
  return {};
}

/// [quota.of]: repositories by their whole names, which hold slashes and so are no keys of ours.
Status read_quotas_of(const toml::node& node, std::string_view key, std::map<std::string, std::uint64_t>& out) {
  const auto* table = node.as_table();
  if (table == nullptr) return bad(key, "want a table");
  for (const auto& [name, value] : *table) TRY_PLAIN(take_size(value, concat(key, ".", name.str()), out[std::string(name.str())]));
  return {};
}

bool is_loopback(std::string_view address) { return address.starts_with("127.") || address.starts_with("[::1]:"); }

}  // namespace

Result<Config> parse_config(std::string_view text) {
  const auto table = TRY_PLAIN(parse_toml(text));
  Config out;
  const std::map<std::string_view, Reader> readers{
      {"root", into(out.root)},
      {"listen", into(out.listen)},
      {"user", into(out.user)},
      {"allow_plain_http", into(out.allow_plain_http)},
      {"read_only", into(out.is_read_only)},
      {"access_log", into(out.logs_requests)},
      {"metrics_listen", into(out.metrics_listen)},
      {"fetch", into(out.fetch_path)},
      {"insecure_registries", into(out.insecure)},
      {"hosts_dir", into(out.hosts_dir)},
      {"tls", table_of({{"certificate", into(out.tls.certificate)}, {"key", into(out.tls.key)}, {"client_ca", into(out.tls.ca)}})},
      {"auth", table_of({{"realm", into(out.realm)}, {"htpasswd", into(out.htpasswd_file)},
                         {"token", [&out](const toml::node& node, std::string_view key) { return read_token(node, key, out.token); }}})},
      {"access", list_of<AccessRule>(out.rules, read_rule)},
      {"quota", table_of({{"total", size_into(out.total_quota_bytes)}, {"repository", size_into(out.repository_quota_bytes)},
                          {"of", [&out](const toml::node& node, std::string_view key) { return read_quotas_of(node, key, out.quotas); }}})},
      {"gc", table_of({{"every", duration_into(out.clean_up_every_ns)}, {"grace", duration_into(out.grace_ns)}, {"uploads", duration_into(out.upload_age_ns)},
                       {"untagged", into(out.removes_untagged)}})},
      {"events", list_of<EventConfig>(out.events, read_event)},
      {"proxy", list_of<ProxyConfig>(out.proxies, read_proxy)},
      {"storage", table_of({{"s3", [&out](const toml::node& node, std::string_view key) { return read_s3(node, key, out.s3); }}})},
  };
  TRY_PLAIN(read_table(table, "", readers));
  return out;
}

Status check_config(const Config& config) {
  if (!config.root.starts_with('/')) return bad("root", concat("\"", config.root, "\" must be an absolute path"));
  if (config.listen.empty()) return bad("listen", "names no address");
  if (config.tls.certificate.empty() != config.tls.key.empty()) return bad("tls", "certificate and key belong together");
  for (const auto& address : config.listen)
    if (config.tls.certificate.empty() && !is_loopback(address) && !config.allow_plain_http)
      return Error(ErrorKind::denied, concat(address, ": HTTP without TLS is served on loopback only"))
          .with_hint("give it a certificate and a key, or say allow_plain_http if the network is trusted or a proxy in front speaks TLS");
  if (config.token && (config.token->realm.empty() || config.token->service.empty() || config.token->issuer.empty() || config.token->key_files.empty()))
    return bad("auth.token", "needs realm, service, issuer and keys");
  if (!config.htpasswd_file.empty() && config.token) return bad("auth", "htpasswd and token are two ways of knowing users: choose one");
  if (!config.rules.empty() && config.htpasswd_file.empty() && !config.token) return bad("access", "rules need [auth]: without it nobody is known");
  if (config.s3) TRY_PLAIN(check_s3(*config.s3));
  std::vector<std::string> names;
  for (const auto& event : config.events) {
    if (event.name.empty() || !is_tag(event.name)) return bad("events", "every target needs a name of letters, digits, '.', '_' and '-'");
    if (std::find(names.begin(), names.end(), event.name) != names.end()) return bad("events", concat("two targets are named ", event.name));
    if (!event.url.starts_with("http://") && !event.url.starts_with("https://")) return bad("events", concat(event.name, ": url must begin with http:// or https://"));
    names.push_back(event.name);
  }
  for (const auto& proxy : config.proxies) {
    if (!proxy.prefix.ends_with('/') || !is_repository_path(std::string_view(proxy.prefix).substr(0, proxy.prefix.size() - 1)))
      return bad("proxy", concat("prefix \"", proxy.prefix, "\": want the beginning of repository names, ending in \"/\""));
    if (proxy.upstream.empty()) return bad("proxy", concat(proxy.prefix, " names no upstream"));
  }
  return {};
}

}  // namespace caisson::registry
