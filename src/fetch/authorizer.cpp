// Basic, Bearer and refresh tokens.
#include "fetch/authorizer.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::fetch {

namespace {

constexpr std::size_t most_token_bytes = 1 << 20;
/// So that a token server's operator sees who asks; RFC 6749 wants one with a refresh token.
constexpr std::string_view client_id = "caisson";

std::string basic_header(const image::RegistryCredentials& credentials) {
  return concat("Authorization: Basic ", base64_encode(concat(credentials.username, ":", credentials.password)));
}

/// A header's value comes from a stranger's JSON or from a file: nothing in it may begin another line.
bool is_header_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) > ' ' && c != 0x7F; });
}

}  // namespace

Result<TokenAnswer> parse_token_answer(std::string_view body) {
  auto document = parse_json(body, "the token server's answer");
  if (!document.ok()) return std::move(document).error().with_kind(ErrorKind::corrupt);
  JsonView view(*document);
  TokenAnswer answer;
  std::string access_token;
  TRY(view.read("token", answer.token), "the token server's answer");
  TRY(view.read("access_token", access_token), "the token server's answer");
  TRY(view.read("refresh_token", answer.refresh_token), "the token server's answer");
  if (answer.token.empty()) answer.token = std::move(access_token);
  if (answer.token.empty()) return Error(ErrorKind::corrupt, "the token server's answer holds no token");
  if (!is_header_text(answer.token)) return Error(ErrorKind::corrupt, "the token server's token holds a character that no token has");
  return answer;
}

std::string Authorizer::header() {
  std::lock_guard lock(mutex_);
  if (header_.empty() && !credentials_.registry_token.empty() && is_header_text(credentials_.registry_token))
    return concat("Authorization: Bearer ", credentials_.registry_token);
  return header_;
}

std::string Authorizer::refresh_token() {
  std::lock_guard lock(mutex_);
  return refresh_token_;
}

void Authorizer::add_scope(const std::string& scope) {
  std::lock_guard lock(mutex_);
  if (std::find(scopes_.begin(), scopes_.end(), scope) != scopes_.end()) return;
  scopes_.push_back(scope);
  // The next request is challenged again and gets a token for all. Basic knows no scopes.
  if (header_.starts_with("Authorization: Bearer ")) header_.clear();
}

Status Authorizer::answer(const HttpReply& unauthorized, const std::string& used, const std::atomic<bool>* cancelled) {
  std::lock_guard lock(mutex_);
  if (!header_.empty() && header_ != used) return {};  // another transfer has fetched a new one meanwhile
  auto challenges = parse_challenges(unauthorized.header("www-authenticate"));
  auto find = [&](std::string_view scheme) {
    auto found = std::find_if(challenges.begin(), challenges.end(), [&](const Challenge& challenge) { return challenge.scheme == scheme; });
    return found == challenges.end() ? nullptr : &*found;
  };
  if (const auto* bearer = find("bearer"); bearer != nullptr) return take_token(*bearer, unauthorized.url, cancelled);
  if (find("basic") == nullptr) return Error(ErrorKind::denied, "unauthorized: authentication required");
  if (credentials_.username.empty()) return Error(ErrorKind::denied, "no basic auth credentials");
  header_ = basic_header(credentials_);
  if (header_ != used) return {};
  auto reason = parse_registry_error(unauthorized.body);
  return Error(ErrorKind::denied, reason ? reason->text : "unauthorized: authentication required");
}

std::vector<std::string> Authorizer::scopes_for(const Challenge& challenge) const {
  std::vector<std::string> scopes = scopes_;
  const std::string asked = challenge.get("scope");
  for (auto scope : split(asked, ' '))
    if (!scope.empty() && std::find(scopes.begin(), scopes.end(), scope) == scopes.end()) scopes.emplace_back(scope);
  return scopes;
}

Result<HttpReply> Authorizer::ask_token_server(const Challenge& challenge, const Url& realm, const std::atomic<bool>* cancelled) {
  const auto scopes = scopes_for(challenge);
  const auto service = challenge.get("service");
  HttpRequest request;
  request.cancelled = cancelled;
  request.most_body_bytes = most_token_bytes;
  request.url = realm.text();
  if (!credentials_.identity_token.empty()) {
    request.method = "POST";
    request.headers.emplace_back("Content-Type: application/x-www-form-urlencoded");
    request.body = concat("grant_type=refresh_token&client_id=", client_id, "&service=", percent_encode(service), "&scope=",
                          percent_encode(join(scopes, " ")), "&refresh_token=", percent_encode(credentials_.identity_token));
    return http_.perform(settings_, request);
  }
  std::string separator = realm.path.find('?') == std::string::npos ? "?" : "&";
  auto add = [&](std::string_view name, std::string_view value) {
    request.url += concat(separator, name, "=", percent_encode(value));
    separator = "&";
  };
  if (!service.empty()) add("service", service);
  for (const auto& scope : scopes) add("scope", scope);
  if (!credentials_.username.empty()) {
    add("account", credentials_.username);
    if (scopes.empty()) add("offline_token", "true");
    add("client_id", client_id);
    request.headers.push_back(basic_header(credentials_));
  }
  return http_.perform(settings_, request);
}

Status Authorizer::take_token(const Challenge& challenge, const std::string& registry_url, const std::atomic<bool>* cancelled) {
  auto realm = TRY(parse_url(challenge.get("realm")), "the registry names no token server");
  // Whoever may listen to plain HTTP would learn the password; a registry that speaks it itself has already decided that.
  if (realm.scheme == "http" && registry_url.starts_with("https:") && !credentials_.empty())
    return Error(ErrorKind::denied, concat("the token server ", realm.origin(), " speaks plain HTTP: no password is sent there"));
  auto reply = TRY_PLAIN(ask_token_server(challenge, realm, cancelled));
  if (reply.status == 401 || reply.status == 403) {
    auto reason = parse_registry_error(reply.body);
    return Error(ErrorKind::denied, reason ? reason->text : "unauthorized: incorrect username or password");
  }
  if (reply.status != 200) return Error(ErrorKind::unavailable, concat("the token server ", realm.origin(), " answered ", reply.status));
  auto answer = TRY_PLAIN(parse_token_answer(reply.body));
  header_ = concat("Authorization: Bearer ", answer.token);
  if (!answer.refresh_token.empty()) refresh_token_ = std::move(answer.refresh_token);
  return {};
}

}  // namespace caisson::fetch
