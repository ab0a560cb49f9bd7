// roles.toml → Policy. Strict: a word that is not known here might have been meant to forbid something.
#include <algorithm>
#include <functional>
#include <set>

#include "base/strings.hpp"
#include "base/toml.hpp"
#include "policy/policy.hpp"

namespace caisson::policy {

namespace {

/// A key of a table, how it is read, and whether somebody has named it.
using Read = std::function<Status(const toml::node&)>;
struct Key {
  std::string_view name;
  Read read;
};

std::string clean(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return std::string(path);
}

bool is_clean(std::string_view path) {
  if (!path.starts_with('/')) return false;
  if (path == "/") return true;
  const auto parts = split(path.substr(1), '/');
  return std::none_of(parts.begin(), parts.end(), [](std::string_view part) { return part.empty() || part == "." || part == ".."; });
}

Result<BindGrant> read_grant(std::string_view text) {
  BindGrant grant;
  auto pieces = split(text, ':');
  grant.path = clean(pieces[0]);
  if (!is_clean(grant.path)) return Error(ErrorKind::invalid, concat("\"", text, "\": want an absolute path without . and ..")).with_hint("write it as /srv/web, /srv/web:ro or /srv/web:owners");
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i] == "ro") grant.read_only = true;
    else if (pieces[i] == "owners") grant.keeps_owners = true;
    else return Error(ErrorKind::invalid, concat("\"", text, "\": \"", pieces[i], "\" is neither ro nor owners"));
  }
  return grant;
}

Result<Range> read_range(std::string_view text) {
  auto halves = split_once(text, '-');
  Range range;
  range.first = TRY_PLAIN(parse_integer<std::uint32_t>(halves.before));
  range.last = halves.found ? TRY_PLAIN(parse_integer<std::uint32_t>(halves.after)) : range.first;
  if (range.last < range.first) return Error(ErrorKind::invalid, concat("\"", text, "\": the range ends before it begins"));
  return range;
}

/// "2", "1.5" → nano-CPUs.
Result<std::int64_t> read_cpus(const toml::node& node) {
  constexpr double most = 100000;
  double cpus = 0;
  if (const auto* number = node.as_integer()) cpus = static_cast<double>(number->get());
  else if (const auto* real = node.as_floating_point()) cpus = real->get();
  if (!(cpus > 0 && cpus <= most)) return Error(ErrorKind::invalid, "want a number of CPUs, such as 2 or 0.5");
  return static_cast<std::int64_t>(cpus * 1e9);
}

/// The number of a name in /etc/passwd or /etc/group, or the number itself.
std::optional<std::uint32_t> find_account(std::string_view text, std::string_view name) {
  if (auto number = parse_integer<std::uint32_t>(name); number.ok()) return *number;
  for (auto line : split(text, '\n')) {
    auto columns = split(line, ':');
    if (columns.size() < 3 || columns[0] != name) continue;
    if (auto number = parse_integer<std::uint32_t>(columns[2]); number.ok()) return *number;
  }
  return std::nullopt;
}

Status read_flag(const toml::node& node, bool& out) {
  const auto* flag = node.as_boolean();
  if (flag == nullptr) return Error(ErrorKind::invalid, "want true or false");
  out = flag->get();
  return {};
}

Status read_text(const toml::node& node, std::string& out) {
  const auto* text = node.as_string();
  if (text == nullptr || text->get().empty()) return Error(ErrorKind::invalid, "want a text");
  out = text->get();
  return {};
}

Status read_texts(const toml::node& node, std::vector<std::string>& out) {
  const auto* list = node.as_array();
  if (list == nullptr) return Error(ErrorKind::invalid, "want a list of texts");
  out.clear();
  for (const auto& item : *list) {
    const auto* text = item.as_string();
    if (text == nullptr) return Error(ErrorKind::invalid, "want a list of texts");
    out.push_back(text->get());
  }
  return {};
}

template <class T>
Status read_list(const toml::node& node, std::vector<T>& out, Result<T> (*read)(std::string_view)) {
  std::vector<std::string> texts;
  TRY_PLAIN(read_texts(node, texts));
  out.clear();
  for (const auto& text : texts) out.push_back(TRY_PLAIN(read(text)));
  return {};
}

}  // namespace

class PolicyReader {
 public:
  PolicyReader(Policy& policy, const Accounts& accounts) : policy_(policy), accounts_(accounts) {}

  Status read(const toml::table& root) {
    // Roles first: the rules name them, wherever they stand.
    if (const auto* roles = root.get("roles")) TRY_PLAIN(read_roles(*roles));
    return read_table(root, "", {
        {"roles", [](const toml::node&) -> Status { return {}; }},
        {"who", [&](const toml::node& node) { return read_rules(node); }},
        {"containers-may-ask", [&](const toml::node& node) { return read_flag(node, policy_.containers_may_ask_); }},
    });
  }

 private:
  [[nodiscard]] std::string place(const toml::node& node) const { return concat(policy_.path_, ", line ", node.source().begin.line); }

  Status read_table(const toml::table& table, std::string_view of, const std::vector<Key>& keys) const {
    for (const auto& [written, node] : table) {
      const std::string_view name = written.str();
      const auto key = std::find_if(keys.begin(), keys.end(), [&](const Key& known) { return known.name == name; });
      if (key == keys.end()) return Error(ErrorKind::invalid, concat(place(node), ": ", of, of.empty() ? "" : ".", name, ": unknown key"));
      if (auto status = key->read(node); !status.ok()) {
        if (status.error().text().starts_with(policy_.path_)) return status;  // an inner table has said where
        return std::move(status).error().in(concat(place(node), ": ", of, of.empty() ? "" : ".", name));
      }
    }
    return {};
  }

  Status read_roles(const toml::node& node) {
    const auto* table = node.as_table();
    if (table == nullptr) return Error(ErrorKind::invalid, concat(place(node), ": roles: want tables such as [roles.developer]"));
    for (const auto& [name, role] : *table) {
      const auto* body = role.as_table();
      if (body == nullptr) return Error(ErrorKind::invalid, concat(place(role), ": roles.", name.str(), ": want a table"));
      if (name != "user" && built_in(name.str())) return Error(ErrorKind::invalid, concat(place(role), ": the role \"", name.str(), "\" is built in")).with_hint("give yours another name; only \"user\" can be told anew");
      TRY_PLAIN(read_role(std::string(name.str()), *body));
    }
    return {};
  }

  Status read_role(const std::string& name, const toml::table& table) {
    Role role;
    role.name = name;
    role.origin = place(table);
    bool is_unbounded = false;
    std::optional<Bounds> bounds;
    TRY_PLAIN(read_table(table, concat("roles.", name), {
        {"may", [&](const toml::node& node) { return read_verbs(node, role.may); }},
        {"labels", [&](const toml::node& node) { return read_labels(node, role.scope.labels); }},
        {"project", [&](const toml::node& node) { return read_text(node, role.scope.project); }},
        {"unbounded", [&](const toml::node& node) { return read_flag(node, is_unbounded); }},
        {"containers", [&](const toml::node& node) { return read_bounds(node, concat("roles.", name, ".containers"), bounds.emplace()); }},
    }));
    if (is_unbounded && bounds) return Error(ErrorKind::invalid, concat(place(table), ": roles.", name, ": unbounded and [containers] contradict each other"));
    if (!is_unbounded) role.bounds = bounds.value_or(Bounds{});
    policy_.roles_[name] = std::make_shared<const Role>(std::move(role));
    return {};
  }

  static Status read_verbs(const toml::node& node, VerbSet& may) {
    std::vector<std::string> words;
    TRY_PLAIN(read_texts(node, words));
    for (const auto& word : words) {
      const bool takes_away = word.starts_with('!');
      const auto verbs = verbs_of(std::string_view(word).substr(takes_away ? 1 : 0));
      if (verbs.none()) return Error(ErrorKind::invalid, concat("\"", word, "\" is no verb")).with_hint("`caisson roles verbs` lists them; families are written as container.*");
      if (takes_away) may &= ~verbs;
      else may |= verbs;
    }
    return {};
  }

  static Status read_labels(const toml::node& node, Labels& labels) {
    std::vector<std::string> texts;
    TRY_PLAIN(read_texts(node, texts));
    for (const auto& text : texts) {
      auto halves = split_once(text, '=');
      if (!halves.found || halves.before.empty()) return Error(ErrorKind::invalid, concat("\"", text, "\": want KEY=VALUE"));
      labels[std::string(halves.before)] = halves.after;
    }
    return {};
  }

  static Status read_namespaces(const toml::node& node, std::vector<std::string>& out) {
    TRY_PLAIN(read_texts(node, out));
    for (const auto& name : out)
      if (std::find(std::begin(host_namespaces), std::end(host_namespaces), name) == std::end(host_namespaces))
        return Error(ErrorKind::invalid, concat("\"", name, "\" is none of network, pid, ipc, uts, cgroup, user"));
    return {};
  }

  static Status read_capabilities(const toml::node& node, std::vector<std::string>& out) {
    TRY_PLAIN(read_texts(node, out));
    for (auto& name : out) {
      std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
      if (name.starts_with("CAP_")) name.erase(0, 4);
    }
    return {};
  }

  static Status read_size(const toml::node& node, std::int64_t& out) {
    if (const auto* number = node.as_integer()) out = number->get();
    else if (const auto* text = node.as_string()) out = TRY_PLAIN(parse_size_bytes(text->get()));
    if (out <= 0) return Error(ErrorKind::invalid, "want a size, such as \"512m\" or \"2g\"");
    return {};
  }

  static Status read_count(const toml::node& node, std::int64_t& out) {
    if (const auto* number = node.as_integer()) out = number->get();
    if (out <= 0) return Error(ErrorKind::invalid, "want a number above 0");
    return {};
  }

  Status read_bounds(const toml::node& node, const std::string& of, Bounds& bounds) const {
    const auto* table = node.as_table();
    if (table == nullptr) return Error(ErrorKind::invalid, concat(place(node), ": ", of, ": want a table"));
    return read_table(*table, of, {
        {"privileged", [&](const toml::node& value) { return read_flag(value, bounds.privileged); }},
        {"unconfined", [&](const toml::node& value) { return read_flag(value, bounds.unconfined); }},
        {"cgroup-parent", [&](const toml::node& value) { return read_flag(value, bounds.cgroup_parent); }},
        {"volume-options", [&](const toml::node& value) { return read_flag(value, bounds.volume_options); }},
        {"capabilities", [&](const toml::node& value) { return read_capabilities(value, bounds.capabilities); }},
        {"binds", [&](const toml::node& value) { return read_list(value, bounds.binds, read_grant); }},
        {"devices", [&](const toml::node& value) { return read_texts(value, bounds.devices); }},
        {"host-namespaces", [&](const toml::node& value) { return read_namespaces(value, bounds.host_namespaces); }},
        {"images", [&](const toml::node& value) { return read_texts(value, bounds.images); }},
        {"networks", [&](const toml::node& value) { return read_texts(value, bounds.networks); }},
        {"log-drivers", [&](const toml::node& value) { return read_texts(value, bounds.log_drivers); }},
        {"users", [&](const toml::node& value) { return read_list(value, bounds.users, read_range); }},
        {"ports", [&](const toml::node& value) { return read_list(value, bounds.ports, read_range); }},
        {"memory", [&](const toml::node& value) { return read_size(value, bounds.memory_bytes); }},
        {"cpus", [&](const toml::node& value) -> Status { bounds.nano_cpus = TRY_PLAIN(read_cpus(value)); return {}; }},
        {"pids", [&](const toml::node& value) { return read_count(value, bounds.pids); }},
    });
  }

  Status read_rules(const toml::node& node) {
    const auto* list = node.as_array();
    if (list == nullptr) return Error(ErrorKind::invalid, "want tables [[who]]");
    for (const auto& item : *list) {
      const auto* table = item.as_table();
      if (table == nullptr) return Error(ErrorKind::invalid, concat(place(item), ": who: want tables [[who]]"));
      TRY_PLAIN(read_rule(*table));
    }
    return {};
  }

  Status read_rule(const toml::table& table) {
    Who rule;
    std::string user, group, role;
    bool is_unix_user = false;
    TRY_PLAIN(read_table(table, "who", {
        {"user", [&](const toml::node& node) { return read_text(node, user); }},
        {"group", [&](const toml::node& node) { return read_text(node, group); }},
        {"certificate", [&](const toml::node& node) { return read_text(node, rule.certificate); }},
        {"token", [&](const toml::node& node) { return read_text(node, rule.token_name); }},
        {"token-sha256", [&](const toml::node& node) { return read_token(node, rule.token_sha256); }},
        {"plain-tcp", [&](const toml::node& node) { return read_flag(node, rule.is_plain_tcp); }},
        {"anywhere", [&](const toml::node& node) { return read_flag(node, rule.is_anywhere); }},
        {"role", [&](const toml::node& node) { return read_text(node, role); }},
    }));
    is_unix_user = !user.empty() || !group.empty();
    if (!is_unix_user && rule.certificate.empty() && rule.token_sha256.empty() && !rule.is_plain_tcp)
      return Error(ErrorKind::invalid, concat(place(table), ": who: names nobody")).with_hint("give it a user, group, certificate, token-sha256 or plain-tcp = true");
    if (rule.token_name.empty() != rule.token_sha256.empty()) return Error(ErrorKind::invalid, concat(place(table), ": who: token (its name) and token-sha256 go together"));
    if (role.empty()) return Error(ErrorKind::invalid, concat(place(table), ": who: has no role"));
    rule.role = policy_.find(role);
    if (!rule.role) return Error(ErrorKind::invalid, concat(place(table), ": who.role: there is no role \"", role, "\""));
    if (!user.empty()) rule.uid = find_account(accounts_.passwd, user);
    if (!group.empty()) rule.gid = find_account(accounts_.group, group);
    // A rule for somebody who is not there must not fit everybody, and must not keep the engine from starting either.
    if (!user.empty() && !rule.uid) policy_.warnings_.push_back(concat(place(table), ": there is no user \"", user, "\" in /etc/passwd"));
    else if (!group.empty() && !rule.gid) policy_.warnings_.push_back(concat(place(table), ": there is no group \"", group, "\" in /etc/group"));
    else policy_.rules_.push_back(std::move(rule));
    return {};
  }

  static Status read_token(const toml::node& node, std::string& out) {
    TRY_PLAIN(read_text(node, out));
    constexpr std::size_t sha256_digits = 64;
    if (out.size() != sha256_digits || out.find_first_not_of("0123456789abcdef") != std::string::npos)
      return Error(ErrorKind::invalid, "want 64 hexadecimal digits").with_hint("`caisson roles token NAME` makes a token and prints this line");
    return {};
  }

  Policy& policy_;
  const Accounts& accounts_;
};

Result<Policy> Policy::parse(std::string_view text, const std::string& path, const Accounts& accounts, std::uint32_t owner, RolePointer tcp) {
  const toml::table root = TRY(parse_toml(text), path);
  Policy policy(owner, std::move(tcp));
  policy.path_ = path;
  TRY_PLAIN(PolicyReader(policy, accounts).read(root));
  return policy;
}

}  // namespace caisson::policy
