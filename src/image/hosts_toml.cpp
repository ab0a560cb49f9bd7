// containerd's hosts.toml.
#include <algorithm>

#include "base/strings.hpp"
#include "base/toml.hpp"
#include "image/registry_hosts.hpp"

namespace caisson::image {

namespace {

Error bad(std::string_view key, std::string_view why) { return {ErrorKind::invalid, concat(key, ": ", why)}; }

Result<std::vector<std::string>> read_texts(const toml::node& node, std::string_view key) {
  if (const auto* text = node.as_string()) return std::vector<std::string>{text->get()};
  const auto* list = node.as_array();
  if (list == nullptr) return bad(key, "want a text or a list of texts");
  std::vector<std::string> out;
  for (const auto& item : *list) {
    const auto* text = item.as_string();
    if (text == nullptr) return bad(key, "want a list of texts");
    out.push_back(text->get());
  }
  return out;
}

Status read_capabilities(const toml::node& node, PlannedHost& host) {
  host.can_pull = host.endpoint.can_resolve = host.endpoint.can_push = false;
  for (const auto& name : TRY_PLAIN(read_texts(node, "capabilities"))) {
    if (name == "pull") host.can_pull = true;
    else if (name == "resolve") host.endpoint.can_resolve = true;
    else if (name == "push") host.endpoint.can_push = true;
    else return bad("capabilities", concat("\"", name, "\" is none of pull, resolve, push"));
  }
  return {};
}

/// "client.pem", ["a.pem"], or [["a.cert", "a.key"]]: the first pair is used.
Status read_client(const toml::node& node, PlannedHost& host) {
  const auto* list = node.as_array();
  const toml::node* first = list != nullptr && !list->empty() ? list->get(0) : &node;
  auto pair = TRY_PLAIN(read_texts(*first, "client"));
  if (pair.empty() || pair.size() > 2) return bad("client", "want a file, or a pair of certificate and key");
  host.client_certificate_file = pair[0];
  if (pair.size() == 2) host.client_key_file = pair[1];
  return {};
}

Status read_headers(const toml::node& node, PlannedHost& host) {
  const auto* table = node.as_table();
  if (table == nullptr) return bad("header", "want a table");
  for (const auto& [name, value] : *table) {
    auto texts = TRY_PLAIN(read_texts(value, "header"));
    auto text = join(texts, ", ");
    auto is_line_end = [](char c) { return c == '\r' || c == '\n' || c == '\0'; };
    if (std::any_of(text.begin(), text.end(), is_line_end) || name.str().find_first_of(": \r\n") != std::string_view::npos)
      return bad("header", concat("\"", name.str(), "\" is no header of one line"));
    host.endpoint.headers[std::string(name.str())] = std::move(text);
  }
  return {};
}

Result<std::string> address_of(std::string_view url, bool keeps_path) {
  std::string address(url);
  if (address.find("://") == std::string::npos) address.insert(0, "https://");
  TRY_PLAIN(check_mirror(address));
  while (address.ends_with('/')) address.pop_back();
  if (keeps_path || address.ends_with("/v2")) return address;
  return address + "/v2";
}

Result<PlannedHost> read_host(std::string_view url, const toml::table& table) {
  PlannedHost host;
  bool keeps_path = false;
  for (const auto& [key, node] : table) {
    if (key == "capabilities") TRY_PLAIN(read_capabilities(node, host));
    else if (key == "ca") host.ca_files = TRY_PLAIN(read_texts(node, "ca"));
    else if (key == "client") TRY_PLAIN(read_client(node, host));
    else if (key == "header") TRY_PLAIN(read_headers(node, host));
    else if (key == "skip_verify" && node.is_boolean()) host.endpoint.skip_verify = node.as_boolean()->get();
    else if (key == "override_path" && node.is_boolean()) keeps_path = node.as_boolean()->get();
    else if (key == "skip_verify" || key == "override_path") return bad(key.str(), "want true or false");
    // containerd adds keys from time to time (dial_timeout, …): what we do not know changes how, not where.
  }
  host.endpoint.url = TRY_PLAIN(address_of(url, keeps_path));
  return host;
}

}  // namespace

Result<std::vector<PlannedHost>> parse_hosts_toml(std::string_view text, const std::string& domain) {
  const toml::table root = TRY_PLAIN(parse_toml(text));
  const std::string origin = "https://" + registry_host(domain);
  std::string server = root["server"].value_or(origin);
  std::vector<std::pair<std::uint32_t, PlannedHost>> found;  // by line: toml++ sorts tables by name, containerd keeps the file's order
  if (const auto* hosts = root["host"].as_table()) {
    for (const auto& [url, node] : *hosts) {
      const auto* table = node.as_table();
      if (table == nullptr) return bad(concat("host.\"", url.str(), "\""), "want a table");
      auto host = TRY(read_host(url.str(), *table), concat("host.\"", url.str(), "\""));
      found.emplace_back(url.source().begin.line, std::move(host));
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  PlannedHost last = TRY(read_host(server, root), "server");
  std::vector<PlannedHost> out;
  bool names_origin = false;
  for (auto& [line, host] : found) {
    host.endpoint.is_origin = host.endpoint.url == last.endpoint.url;
    names_origin = names_origin || host.endpoint.is_origin;
    out.push_back(std::move(host));
  }
  if (!names_origin) out.push_back(std::move(last));
  return out;
}

}  // namespace caisson::image
