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
  if (text.starts_with("git://") || text.starts_with("git@") || text.starts_with("ssh://") || text.starts_with("github.com/")) return true;
  return is_http(text) && without_details(text).ends_with(".git");
}

Result<GitSource> parse_git_url(std::string_view text) {
  if (text.starts_with("git@") || text.starts_with("ssh://"))
    return Error(ErrorKind::unsupported, concat("git repository ", text, ": ssh needs a key, which the builder does not have"))
        .with_hint("use the repository's https address, with a token as the secret GIT_AUTH_TOKEN if it is not public");
  GitSource out;
  const Halves halves = split_once(text, '#');
  const Halves address = split_once(halves.before, '?');
  out.repository = address.before.starts_with("github.com/") ? concat("https://", address.before) : std::string(address.before);
  for (const char c : out.repository)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return bad(text, "a blank or control character in the address");
  const std::string_view rest = std::string_view(out.repository).substr(out.repository.find("://") + 3);
  if (rest.empty() || rest.starts_with('/') || rest.starts_with('-')) return bad(text, "no host");
  TRY_PLAIN(read_query(out, text, address.after));
  const Halves fragment = split_once(halves.after, ':');
  if (!fragment.before.empty()) TRY_PLAIN(set_ref(out, text, fragment.before));
  if (!fragment.after.empty()) TRY_PLAIN(set_folder(out, text, fragment.after));
  return out;
}

}  // namespace caisson::dockerfile
