// Pure: reads text that users and Dockerfiles give.
#include "dockerfile/git_url.hpp"

#include "base/strings.hpp"
#include "dockerfile/ignore.hpp"

namespace caisson::dockerfile {

namespace {

bool is_http(std::string_view text) { return text.starts_with("http://") || text.starts_with("https://"); }

std::string_view without_details(std::string_view text) { return text.substr(0, text.find_first_of("?#")); }

Error bad(std::string_view text, std::string_view reason) { return {ErrorKind::invalid, concat("git repository ", text, ": ", reason)}; }

/// What git could take for an option or for several words has no place in a ref (git-check-ref-format(1)).
bool is_ref(std::string_view ref) {
  if (ref.starts_with('-') || ref.find("..") != std::string_view::npos) return false;
  for (const char c : ref)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f || c == '~' || c == '^' || c == ':' || c == '?' || c == '*' || c == '[' || c == '\\') return false;
  return true;
}

constexpr std::string_view ssh_scheme = "ssh://";

bool is_name(std::string_view text) {
  if (text.empty() || text.starts_with('-')) return false;
  for (const char c : text)
    if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.') return false;
  return true;
}

/// "user@host:path": what has a slash before the colon is a file's path.
bool is_short_ssh(std::string_view text) {
  const Halves user = split_once(text, '@');
  const Halves host = split_once(user.after, ':');
  return user.found && host.found && is_name(user.before) && is_name(host.before) && !host.after.empty() && !host.after.starts_with("//");
}

/// ssh(1) takes what begins with '-' for an option, and so does nobody else here.
Status check_ssh_address(std::string_view text, std::string_view repository) {
  if (!repository.starts_with(ssh_scheme)) return {};  // is_short_ssh() has looked
  const std::string_view place = split_once(repository.substr(ssh_scheme.size()), '/').before;
  const Halves user = split_once(place, '@');
  std::string_view host = user.found ? user.after : user.before;
  if (user.found && !is_name(user.before)) return bad(text, concat("\"", user.before, "\" is no user (keys come from --ssh, not from the address)"));
  if (host.starts_with('[')) {  // an IPv6 address
    const Halves inside = split_once(host.substr(1), ']');
    if (!inside.found || inside.before.empty() || inside.before.find_first_not_of("0123456789abcdefABCDEF:.") != std::string_view::npos) return bad(text, "no host");
    host = inside.after.empty() ? "" : inside.after;
    if (!host.empty() && (!host.starts_with(':') || host.size() == 1)) return bad(text, "no host");
    if (!host.empty()) host.remove_prefix(1);
  } else {
    const Halves port = split_once(host, ':');
    if (!is_name(port.before)) return bad(text, "no host");
    if (!port.found) return {};
    host = port.after;
    if (host.empty()) return bad(text, "no port");
  }
  return host.find_first_not_of("0123456789") == std::string_view::npos ? Status() : Status(bad(text, concat("\"", host, "\" is no port")));
}

Status set_ref(GitSource& out, std::string_view text, std::string_view ref) {
  if (!out.ref.empty() && out.ref != ref) return bad(text, concat("two refs, ", out.ref, " and ", ref));
  if (!is_ref(ref)) return bad(text, concat("\"", ref, "\" is no ref"));
  out.ref = ref;
  return {};
}

Status set_folder(GitSource& out, std::string_view text, std::string_view folder) {
  // Taken lexically, as BuildKit does it: a folder above the root is the root.
  const std::string clean = dockerfile::clean_path(concat("/", folder)).substr(1);
  if (!out.subfolder.empty() && out.subfolder != clean) return bad(text, concat("two folders, ", out.subfolder, " and ", clean));
  out.subfolder = clean;
  return {};
}

Result<bool> truth(std::string_view text, std::string_view key, std::string_view value) {
  if (value.empty() || value == "1" || value == "true") return true;
  if (value == "0" || value == "false") return false;
  return bad(text, concat(key, "=", value, ": want true or false"));
}

Status read_query(GitSource& out, std::string_view text, std::string_view query) {
  for (const std::string_view part : split(query, '&')) {
    if (part.empty()) continue;
    const Halves pair = split_once(part, '=');
    const std::string_view key = pair.before;
    if (key == "ref") TRY_PLAIN(set_ref(out, text, pair.after));
    else if (key == "branch") TRY_PLAIN(set_ref(out, text, concat("refs/heads/", pair.after)));
    else if (key == "tag") TRY_PLAIN(set_ref(out, text, concat("refs/tags/", pair.after)));
    else if (key == "subdir") TRY_PLAIN(set_folder(out, text, pair.after));
    else if (key == "checksum" || key == "commit") TRY(out.expect_commit(pair.after), concat("git repository ", text));
    else if (key == "keep-git-dir") out.keeps_git_dir = TRY_PLAIN(truth(text, key, pair.after));
    else if (key == "submodules") out.has_submodules = TRY_PLAIN(truth(text, key, pair.after));
    else return bad(text, concat("unknown word \"", key, "\""));
  }
  return {};
}

}  // namespace

Status GitSource::expect_commit(std::string_view hash) {
  const std::string wanted = lower(hash);
  if (wanted.size() < 7 || wanted.size() > 64 || wanted.find_first_not_of("0123456789abcdef") != std::string::npos)
    return Error(ErrorKind::invalid, concat("\"", hash, "\": want at least seven digits of a commit's hash"));
  if (!commit.empty() && commit != wanted) return Error(ErrorKind::invalid, concat("two commits, ", commit, " and ", wanted));
  commit = wanted;
  return {};
}

bool is_git_url(std::string_view text) {
  if (text.starts_with("git://") || text.starts_with("github.com/") || is_ssh_git_url(text)) return true;
  return is_http(text) && without_details(text).ends_with(".git");
}

bool is_ssh_git_url(std::string_view text) { return text.starts_with(ssh_scheme) || text.starts_with("git@") || is_short_ssh(text); }

std::string ssh_host(const GitSource& source) {
  std::string_view address = source.repository;
  const bool has_scheme = address.starts_with(ssh_scheme);
  if (has_scheme) address = split_once(address.substr(ssh_scheme.size()), '/').before;
  const Halves user = split_once(address, '@');
  const std::string_view host = user.found ? user.after : user.before;
  if (!has_scheme) return std::string(split_once(host, ':').before);
  if (host.starts_with('[')) return host.ends_with(']') ? std::string(host.substr(1, host.size() - 2)) : std::string(host);
  const Halves port = split_once(host, ':');
  return port.found && port.after != "22" ? concat("[", port.before, "]:", port.after) : std::string(port.before);
}

Result<GitSource> parse_git_url(std::string_view text) {
  GitSource out;
  out.is_ssh = is_ssh_git_url(text);
  const Halves halves = split_once(text, '#');
  const Halves address = split_once(halves.before, '?');
  out.repository = address.before.starts_with("github.com/") ? concat("https://", address.before) : std::string(address.before);
  for (const char c : out.repository)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return bad(text, "a blank or control character in the address");
  if (out.is_ssh && !out.repository.starts_with(ssh_scheme) && !is_short_ssh(out.repository)) return bad(text, "want user@host:path");
  if (out.is_ssh) TRY_PLAIN(check_ssh_address(text, out.repository));
  const auto scheme = out.repository.find("://");
  const std::string_view rest = std::string_view(out.repository).substr(scheme == std::string::npos ? 0 : scheme + 3);
  if (rest.empty() || rest.starts_with('/') || rest.starts_with('-')) return bad(text, "no host");
  TRY_PLAIN(read_query(out, text, address.after));
  const Halves fragment = split_once(halves.after, ':');
  if (!fragment.before.empty()) TRY_PLAIN(set_ref(out, text, fragment.before));
  if (!fragment.after.empty()) TRY_PLAIN(set_folder(out, text, fragment.after));
  return out;
}

}  // namespace caisson::dockerfile
