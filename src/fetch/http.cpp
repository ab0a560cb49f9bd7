// libcurl: options set anew for every request on a kept handle, so that its connections live on.
#include "fetch/http.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <cstring>

#include "base/strings.hpp"
#include "fetch/challenge.hpp"
#include "linux/file.hpp"

namespace caisson::fetch {

namespace {

constexpr long most_redirects = 10;
constexpr long receive_buffer_bytes = 256 << 10;
constexpr long upload_buffer_bytes = 256 << 10;
constexpr std::size_t most_header_bytes = 256 << 10;
constexpr std::size_t most_idle_handles = 8;

struct SlistGuard {
  curl_slist* list = nullptr;
  SlistGuard() = default;
  SlistGuard(const SlistGuard&) = delete;
  SlistGuard& operator=(const SlistGuard&) = delete;
  ~SlistGuard() { curl_slist_free_all(list); }
};

/// What libcurl's callbacks see.
struct Transfer {
  CURL* curl = nullptr;
  const HttpRequest* request = nullptr;
  HttpReply reply;
  std::size_t header_bytes = 0;
  Status failure;
  std::uint64_t sent = 0;
  [[nodiscard]] bool is_success() const { return reply.status >= 200 && reply.status < 300; }
};

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  const std::string_view line(data, size * count);
  transfer.header_bytes += line.size();
  if (transfer.header_bytes > most_header_bytes) {
    transfer.failure = Error(ErrorKind::invalid, "the answer's headers are too long");
    return 0;
  }
  if (line.starts_with("HTTP/")) {  // of the next answer: a redirect or a 100 came before
    transfer.reply.headers.clear();
    auto words = split(trim(line), ' ');
    transfer.reply.status = words.size() > 1 ? parse_integer<int>(words[1]).value_or(0) : 0;
    return line.size();
  }
  auto halves = split_once(trim(line), ':');
  if (!halves.found) return line.size();
  auto& value = transfer.reply.headers[lower(trim(halves.before))];
  value = value.empty() ? std::string(trim(halves.after)) : concat(value, ", ", trim(halves.after));
  return line.size();
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  const std::string_view piece(data, size * count);
  if (transfer.is_success() && transfer.request->sink) {
    transfer.failure = transfer.request->sink(transfer.reply, piece);
    return transfer.failure.ok() ? piece.size() : 0;
  }
  if (transfer.reply.body.size() + piece.size() > transfer.request->most_body_bytes) {
    transfer.failure = Error(ErrorKind::invalid, concat("the answer is longer than ", transfer.request->most_body_bytes, " bytes"));
    return 0;
  }
  transfer.reply.body += piece;
  return piece.size();
}

std::size_t on_read(char* buffer, std::size_t size, std::size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  const auto& request = *transfer.request;
  const std::uint64_t total = request.upload_fd >= 0 ? request.upload_bytes : request.body.size();
  const auto wanted = static_cast<std::size_t>(std::min<std::uint64_t>(size * count, total - transfer.sent));
  if (wanted == 0) return 0;
  std::size_t got = wanted;
  if (request.upload_fd >= 0) {
    auto read = linux::pread(request.upload_fd, std::span<char>(buffer, wanted), request.upload_offset + transfer.sent);
    if (read.ok() && *read == 0) read = Error(ErrorKind::corrupt, "the blob is shorter than it was");
    if (!read.ok()) {
      transfer.failure = std::move(read).error();
      return CURL_READFUNC_ABORT;
    }
    got = *read;
  } else {
    std::memcpy(buffer, request.body.data() + transfer.sent, wanted);
  }
  transfer.sent += got;
  if (request.on_sent) request.on_sent(transfer.sent);
  return got;
}

/// A redirect of an upload, or a kept connection that had died, sends the body again.
int on_seek(void* context, curl_off_t offset, int origin) {
  auto& transfer = *static_cast<Transfer*>(context);
  if (origin != SEEK_SET || offset < 0) return CURL_SEEKFUNC_CANTSEEK;
  transfer.sent = static_cast<std::uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

int on_progress(void* context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& transfer = *static_cast<Transfer*>(context);
  return transfer.request->cancelled != nullptr && *transfer.request->cancelled ? 1 : 0;
}

/// "Get", "Head": how Go, and so docker, begins such sentences.
std::string verb_of(const std::string& method) {
  std::string verb = lower(method);
  if (!verb.empty() && verb[0] >= 'a' && verb[0] <= 'z') verb[0] = static_cast<char>(verb[0] - 'a' + 'A');
  return verb;
}

std::string reason_of(CURLcode code, CURL* curl, const std::string& host, const char* details) {
  long number = 0;
  curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &number);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST: return concat("dial tcp: lookup ", host, ": no such host");
    case CURLE_COULDNT_RESOLVE_PROXY: return concat("proxyconnect tcp: ", details);
    case CURLE_COULDNT_CONNECT: {
      // The reason is an errno where the kernel gave one; docker's words for the commonest.
      std::string reason = number != 0 ? lower(std::strerror(static_cast<int>(number))) : std::string(details);
      return concat("dial tcp: connect to ", host, ": connect: ", reason);
    }
    case CURLE_OPERATION_TIMEDOUT: return concat("net/http: request canceled (Client.Timeout exceeded): ", details);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING: return "unexpected EOF";
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE: return concat("tls: failed to verify certificate: ", details);
    case CURLE_SSL_CONNECT_ERROR: return concat("tls: ", details);
    default: return *details != '\0' ? details : curl_easy_strerror(code);
  }
}

ErrorKind kind_of(CURLcode code) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return ErrorKind::timeout;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE: return ErrorKind::denied;
    default: return ErrorKind::unavailable;
  }
}

void set_text_blob(CURL* curl, CURLoption option, const std::string& text) {
  if (text.empty()) return;
  curl_blob blob{};
  blob.data = const_cast<char*>(text.data());  // CURL_BLOB_COPY: it is only read
  blob.len = text.size();
  blob.flags = CURL_BLOB_COPY;
  curl_easy_setopt(curl, option, &blob);
}

}  // namespace

std::string HttpReply::header(const std::string& name) const {
  auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::Handle {
  CURL* curl = curl_easy_init();
  Handle() = default;
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { curl_easy_cleanup(curl); }
};

HttpClient::HttpClient() { curl_global_init(CURL_GLOBAL_DEFAULT); }
HttpClient::~HttpClient() = default;

std::unique_ptr<HttpClient::Handle> HttpClient::take() {
  std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Handle>();
  auto handle = std::move(idle_.back());
  idle_.pop_back();
  return handle;
}

void HttpClient::give_back(std::unique_ptr<Handle> handle) {
  std::lock_guard lock(mutex_);
  if (idle_.size() < most_idle_handles) idle_.push_back(std::move(handle));
}

Result<HttpReply> HttpClient::perform(const HttpSettings& settings, const HttpRequest& request) {
  auto handle = take();
  CURL* curl = handle->curl;
  if (curl == nullptr) return Error(ErrorKind::unavailable, "libcurl has no memory");
  curl_easy_reset(curl);
  Transfer transfer;
  transfer.curl = curl;
  transfer.request = &request;
  SlistGuard headers;
  // Without "Expect" a body is sent at once: no registry needs the extra round trip.
  headers.list = curl_slist_append(headers.list, "Expect:");
  for (const auto& header : request.headers) headers.list = curl_slist_append(headers.list, header.c_str());
  char details[CURL_ERROR_SIZE] = "";

  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.list);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, details);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, settings.user_agent.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  // A redirect may not take what was asked over TLS to where anybody can listen.
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, request.url.starts_with("https:") ? "https" : "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, request.follows_redirects ? 1L : 0L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, most_redirects);
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(settings.connect_timeout_ms));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(std::max(1U, settings.stall_timeout_ms / 1000)));
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, receive_buffer_bytes);
  curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, upload_buffer_bytes);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  if (settings.skip_verify) {
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  set_text_blob(curl, CURLOPT_CAINFO_BLOB, settings.ca_pem);
  set_text_blob(curl, CURLOPT_SSLCERT_BLOB, settings.client_certificate_pem);
  set_text_blob(curl, CURLOPT_SSLKEY_BLOB, settings.client_key_pem);
  if (request.method == "HEAD") {
    curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  } else if (request.method != "GET") {
    const std::uint64_t total = request.upload_fd >= 0 ? request.upload_bytes : request.body.size();
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(curl, CURLOPT_READDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(curl, CURLOPT_SEEKDATA, &transfer);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(total));
    // On a kept connection that turns out to be dead libcurl sends the request again by itself: a chunk would arrive twice.
    if (request.upload_fd >= 0) curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
  }

  const CURLcode code = curl_easy_perform(curl);
  char* final_url = nullptr;
  curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &final_url);
  transfer.reply.url = final_url != nullptr ? final_url : request.url;
  if (!transfer.failure.ok()) return std::move(transfer.failure).error();
  if (code == CURLE_ABORTED_BY_CALLBACK) return Error(ErrorKind::unavailable, "cancelled");
  if (code != CURLE_OK) {
    auto url = parse_url(transfer.reply.url);
    const std::string host = url.ok() ? url->host_without_port() : request.url;
    return Error(kind_of(code), concat(verb_of(request.method), " \"", request.url, "\": ", reason_of(code, curl, host, details)));
  }
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
  give_back(std::move(handle));
  return std::move(transfer.reply);
}

}  // namespace caisson::fetch
