// OpenSSL behind two memory buffers: bytes go in and out by hand, so that no call of the library ever waits for a socket.
#include "wire/tls.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <memory>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "wire/http_server.hpp"
#include "wire/stream.hpp"

namespace caisson::wire {

namespace {

/// The newest entry of the library's error queue, in its words; the queue is empty afterwards.
std::string last_words() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "TLS failed" : reason;
}

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using SslPointer = std::unique_ptr<SSL, FreeSsl>;

/// Of the subject; "" without a certificate, or when its name has characters that are no text.
std::string common_name(SSL* ssl) {
  struct FreeCertificate {
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  std::unique_ptr<X509, FreeCertificate> certificate(SSL_get1_peer_certificate(ssl));
  if (!certificate) return "";
  const X509_NAME* subject = X509_get_subject_name(certificate.get());
  const int at = X509_NAME_get_index_by_NID(const_cast<X509_NAME*>(subject), NID_commonName, -1);  // older headers lack the const
  if (at < 0) return "";
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0) return "";
  std::string name(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  // A name that ends early for one reader and not for another must be nobody's.
  const bool is_text = std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; });
  return is_text ? name : "";
}

class TlsCodec final : public Codec {
 public:
  /// Takes ownership of `ssl`, whose role is set.
  static std::unique_ptr<TlsCodec> create(SslPointer ssl, std::shared_ptr<PeerName> peer = nullptr) {
    BIO* in = BIO_new(BIO_s_mem());
    BIO* out = BIO_new(BIO_s_mem());
    if (in == nullptr || out == nullptr) {
      BIO_free(in);
      BIO_free(out);
      return nullptr;
    }
    SSL_set_bio(ssl.get(), in, out);  // they belong to `ssl` now
    return std::unique_ptr<TlsCodec>(new TlsCodec(std::move(ssl), std::move(peer)));
  }

  Status receive(std::string_view bytes, std::string& plain, std::string& reply) override {
    // A memory buffer takes everything.
    if (!bytes.empty()) BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
    auto outcome = work(plain);
    drain(reply);
    return outcome;
  }

  Status send(std::string_view plain, std::string& out) override {
    waiting_ += plain;
    if (!SSL_is_init_finished(ssl_.get())) return {};
    auto outcome = write_waiting();
    drain(out);
    return outcome;
  }

  void finish(std::string& out) override {
    ERR_clear_error();
    if (SSL_is_init_finished(ssl_.get())) SSL_shutdown(ssl_.get());  // close_notify; the peer's is awaited by nobody
    drain(out);
  }

  [[nodiscard]] bool is_ended() const override { return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0; }
  [[nodiscard]] bool half_closes() const override { return true; }
  [[nodiscard]] bool is_ready() const { return SSL_is_init_finished(ssl_.get()) != 0; }
  [[nodiscard]] SSL* ssl() const { return ssl_.get(); }

 private:
  TlsCodec(SslPointer ssl, std::shared_ptr<PeerName> peer) : ssl_(std::move(ssl)), peer_(std::move(peer)) {}

  Status work(std::string& plain) {
    ERR_clear_error();
    if (!is_ready()) {
      const int done = SSL_do_handshake(ssl_.get());
      if (done != 1) {
        if (SSL_get_error(ssl_.get(), done) == SSL_ERROR_WANT_READ) return {};
        return Error(ErrorKind::denied, concat("TLS handshake: ", last_words()));
      }
      if (peer_) peer_->set(common_name(ssl_.get()));
      TRY_PLAIN(write_waiting());
    }
    std::array<char, 16 << 10> buffer;
    for (;;) {
      const int count = SSL_read(ssl_.get(), buffer.data(), static_cast<int>(buffer.size()));
      if (count > 0) {
        plain.append(buffer.data(), static_cast<std::size_t>(count));
        continue;
      }
      const int why = SSL_get_error(ssl_.get(), count);
      if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_ZERO_RETURN) return {};
      return Error(ErrorKind::io, concat("TLS: ", last_words()));
    }
  }

  Status write_waiting() {
    if (waiting_.empty()) return {};
    ERR_clear_error();
    const int count = SSL_write(ssl_.get(), waiting_.data(), static_cast<int>(waiting_.size()));
    if (count != static_cast<int>(waiting_.size())) return Error(ErrorKind::io, concat("TLS: ", last_words()));  // a memory buffer is never full
    waiting_.clear();
    return {};
  }

  void drain(std::string& out) {
    BIO* bio = SSL_get_wbio(ssl_.get());
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio, &bytes);
    if (size > 0) out.append(bytes, static_cast<std::size_t>(size));
    BIO_reset(bio);
  }

  SslPointer ssl_;
  std::shared_ptr<PeerName> peer_;  ///< shared with the connection that is served
  std::string waiting_;  ///< plain bytes that came before the handshake was over
};

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using ContextPointer = std::unique_ptr<SSL_CTX, FreeContext>;

/// That a file can be read, and why not otherwise: the library's own words name neither file nor reason.
Status check_readable(const std::string& path, std::string_view what) {
  auto opened = linux::open(path, O_RDONLY);
  if (!opened.ok()) return std::move(opened).error().in(concat(what, " ", path));
  return {};
}

Status load(SSL_CTX* context, const TlsFiles& files) {
  ERR_clear_error();
  if (!files.ca.empty()) {
    TRY_PLAIN(check_readable(files.ca, "CA certificate"));
    if (SSL_CTX_load_verify_locations(context, files.ca.c_str(), nullptr) != 1)
      return Error(ErrorKind::invalid, concat("CA certificate ", files.ca, ": ", last_words()));
  }
  if (files.certificate.empty()) return {};
  TRY_PLAIN(check_readable(files.certificate, "certificate"));
  TRY_PLAIN(check_readable(files.key, "key"));
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
    return Error(ErrorKind::invalid, concat("certificate ", files.certificate, ": ", last_words()));
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) == 1) return {};
  // The certificate is there already, so the library compares the two here.
  if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
    return Error(ErrorKind::invalid, concat("key ", files.key, " does not belong to certificate ", files.certificate));
  return Error(ErrorKind::invalid, concat("key ", files.key, ": ", last_words()));
}

Result<ContextPointer> create_context(const SSL_METHOD* method, const TlsFiles& files) {
  ContextPointer context(SSL_CTX_new(method));
  if (!context) return Error(ErrorKind::unavailable, concat("TLS: ", last_words()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  TRY_PLAIN(load(context.get(), files));
  return context;
}

}  // namespace

struct TlsContext::State {
  ContextPointer context;
  bool verifies = false;
};

TlsContext::TlsContext(std::unique_ptr<State> state) : state_(std::move(state)) {}
TlsContext::TlsContext(TlsContext&&) noexcept = default;
TlsContext& TlsContext::operator=(TlsContext&&) noexcept = default;
TlsContext::~TlsContext() = default;

bool TlsContext::verifies() const { return state_->verifies; }

Result<TlsContext> TlsContext::create_server(const TlsFiles& files) {
  if (files.certificate.empty() || files.key.empty()) return Error(ErrorKind::invalid, "TLS needs a certificate and its key");
  if (files.verify && files.ca.empty()) return Error(ErrorKind::invalid, "TLS with client certificates needs the CA that signs them");
  auto state = std::make_unique<State>();
  state->context = TRY_PLAIN(create_context(TLS_server_method(), files));
  state->verifies = files.verify;
  SSL_CTX_set_num_tickets(state->context.get(), 0);  // every connection shows its certificate
  SSL_CTX_set_verify(state->context.get(), files.verify ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE, nullptr);
  return TlsContext(std::move(state));
}

Result<TlsContext> TlsContext::create_client(const TlsFiles& files) {
  auto state = std::make_unique<State>();
  state->context = TRY_PLAIN(create_context(TLS_client_method(), files));
  state->verifies = files.verify;
  if (files.verify && files.ca.empty()) SSL_CTX_set_default_verify_paths(state->context.get());
  SSL_CTX_set_verify(state->context.get(), files.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  return TlsContext(std::move(state));
}

std::unique_ptr<Codec> TlsContext::create_codec(std::shared_ptr<PeerName> peer) const {
  SslPointer ssl(SSL_new(state_->context.get()));
  if (!ssl) return nullptr;
  SSL_set_accept_state(ssl.get());
  return TlsCodec::create(std::move(ssl), std::move(peer));
}

Result<std::unique_ptr<Codec>> TlsContext::connect(int socket, const std::string& host, int timeout_ms) const {
  SslPointer ssl(SSL_new(state_->context.get()));
  if (!ssl) return Error(ErrorKind::unavailable, concat("TLS: ", last_words()));
  SSL_set_connect_state(ssl.get());
  if (state_->verifies) {
    X509_VERIFY_PARAM* wanted = SSL_get0_param(ssl.get());
    const bool is_address = X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) == 1;
    if (!is_address && X509_VERIFY_PARAM_set1_host(wanted, host.c_str(), host.size()) != 1)
      return Error(ErrorKind::invalid, concat("TLS: \"", host, "\" is no host name"));
    if (!is_address) SSL_set_tlsext_host_name(ssl.get(), host.c_str());
  }
  auto codec = TlsCodec::create(std::move(ssl));
  if (!codec) return Error(ErrorKind::unavailable, "TLS: out of memory");
  const std::int64_t deadline = deadline_after(timeout_ms);
  std::string received;
  while (!codec->is_ready()) {
    std::string plain;
    std::string out;
    auto outcome = codec->receive(received, plain, out);
    if (!out.empty()) TRY(linux::write_all(socket, out), "TLS handshake");
    if (!outcome.ok()) {
      const long verdict = SSL_get_verify_result(codec->ssl());
      if (verdict != X509_V_OK) return Error(ErrorKind::denied, concat("TLS: the certificate of ", host, ": ", X509_verify_cert_error_string(verdict)));
      return std::move(outcome).error();
    }
    if (codec->is_ready()) break;
    received.clear();
    auto count = receive_by(socket, received, deadline);
    if (!count.ok()) return std::move(count).error().in("TLS handshake");
    if (*count == 0) return Error(ErrorKind::io, "TLS handshake: the server closed the connection").with_hint("does it speak TLS on this port?");
  }
  return std::unique_ptr<Codec>(std::move(codec));
}

}  // namespace caisson::wire
