// TLS through the pump: a server with client certificates, whose handler sees plain requests; who is refused; and half-closed streams.
#include "wire/tls.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <thread>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "linux/tree.hpp"
#include "wire/http_client.hpp"
#include "wire/http_server.hpp"

namespace caisson::wire {
namespace {

using testing::HasSubstr;

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct Identity {
  std::unique_ptr<EVP_PKEY, FreeKey> key;
  std::unique_ptr<X509, FreeCertificate> certificate;
};

/// A certificate for `name`, signed by `issuer` or by itself, with `extension` "IP:127.0.0.1" or none.
Identity make_identity(const std::string& name, const Identity* issuer, const char* alternative = nullptr) {
  Identity made;
  made.key.reset(EVP_EC_gen("P-256"));
  made.certificate.reset(X509_new());
  X509* x = made.certificate.get();
  X509_set_version(x, 2);
  static long serial = 0;
  ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(x), -60);
  X509_gmtime_adj(X509_getm_notAfter(x), 3600);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(issuer == nullptr ? x : issuer->certificate.get()));
  X509_set_pubkey(x, made.key.get());
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer == nullptr ? x : issuer->certificate.get(), x, nullptr, nullptr, 0);
  auto add = [&](int kind, const char* value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
    X509_add_ext(x, extension, -1);
    X509_EXTENSION_free(extension);
  };
  if (issuer == nullptr) add(NID_basic_constraints, "critical,CA:TRUE");
  if (alternative != nullptr) add(NID_subject_alt_name, alternative);
  X509_sign(x, issuer == nullptr ? made.key.get() : issuer->key.get(), EVP_sha256());
  return made;
}

class Tls : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(linux::make_dirs(folder, 0700).ok());
    write("ca", authority);
    const Identity server = make_identity("daemon", &authority, "IP:127.0.0.1");
    const Identity client = make_identity("client", &authority);
    write("server", server);
    write("client", client);
    write("stranger", make_identity("stranger", nullptr));
  }
  void TearDown() override {
    if (server_) server_->stop(0);
    if (serving.joinable()) serving.join();
    server_.reset();
    EXPECT_TRUE(linux::remove_tree(folder).ok());
  }

  void write(const std::string& name, const Identity& identity) const {
    FILE* certificate = std::fopen(concat(folder, "/", name, ".pem").c_str(), "w");
    PEM_write_X509(certificate, identity.certificate.get());
    std::fclose(certificate);
    FILE* key = std::fopen(concat(folder, "/", name, ".key").c_str(), "w");
    PEM_write_PrivateKey(key, identity.key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(key);
  }
  [[nodiscard]] TlsFiles files(const std::string& name, bool verify = true, const std::string& ca = "ca") const {
    return {concat(folder, "/", ca, ".pem"), name.empty() ? "" : concat(folder, "/", name, ".pem"), name.empty() ? "" : concat(folder, "/", name, ".key"), verify};
  }

  /// Serves `handler` with TLS; returns the endpoint.
  std::string serve(Handler handler, bool verify = true) {
    auto context = TlsContext::create_server(files("server", verify));
    EXPECT_TRUE(context.ok()) << context.error().text();
    auto listener = listen_tcp("127.0.0.1:0");
    EXPECT_TRUE(listener.ok());
    const auto port = linux::local_endpoint(listener->get())->port;
    server_ = create_server(std::move(handler), ServerOptions{});
    EXPECT_TRUE(server_->add_tls_listener(std::move(*listener), std::move(*context)).ok());
    serving = std::thread([this] { EXPECT_TRUE(server_->run().ok()); });
    return concat("tcp://127.0.0.1:", port);
  }
  Result<std::unique_ptr<Client>> connect_as(const std::string& endpoint, const TlsFiles& as) {
    auto context = TRY_PLAIN(TlsContext::create_client(as));
    return connect(endpoint, 5000, &context);
  }

  const std::string folder = concat("/tmp/caisson-tls-test-", linux::getpid(), "-", testing::UnitTest::GetInstance()->current_test_info()->name());
  const Identity authority = make_identity("authority", nullptr);
  std::unique_ptr<Server> server_;
  std::thread serving;
};

TEST_F(Tls, a_handler_sees_plain_requests_of_verified_peers) {
  auto endpoint = serve([](Exchange& exchange) {
    auto body = exchange.read_body(10 << 20);
    ASSERT_TRUE(body.ok());
    EXPECT_TRUE(exchange.peer().is_verified);
    ASSERT_NE(exchange.peer().certificate, nullptr);
    EXPECT_EQ(exchange.peer().certificate->text(), "client");
    EXPECT_FALSE(exchange.peer().is_unix);
    EXPECT_THAT(exchange.peer().address, HasSubstr("127.0.0.1:"));
    EXPECT_TRUE(exchange.respond(200, {}, *body + "!").ok());
  });
  auto client = connect_as(endpoint, files("client"));
  ASSERT_TRUE(client.ok()) << client.error().text();
  const std::string large(3 << 20, 'x');
  for (const auto& text : {std::string("small"), large, std::string("again")}) {
    auto answer = (*client)->send("POST", "/", {}, text);
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ((*client)->read_all().value_or(""), text + "!");
  }
}

TEST_F(Tls, strangers_are_refused_on_either_side) {
  auto endpoint = serve([](Exchange& exchange) { EXPECT_TRUE(exchange.respond(200, {}, "").ok()); });
  // TLS 1.3 tells a client that its certificate is not accepted after its own handshake, with the first bytes it reads.
  for (const auto& as : {files(""), files("stranger")}) {
    auto client = connect_as(endpoint, as);
    EXPECT_FALSE(client.ok() && (*client)->send("GET", "/", {}, "").ok());
  }
  auto wrong_server = connect_as(endpoint, files("client", true, "stranger"));
  ASSERT_FALSE(wrong_server.ok());
  EXPECT_EQ(wrong_server.error().kind(), ErrorKind::denied);
  EXPECT_THAT(wrong_server.error().text(), HasSubstr("certificate"));
  auto plain = connect(endpoint, 5000);
  EXPECT_FALSE(plain.ok() && (*plain)->send("GET", "/", {}, "").ok());
  EXPECT_TRUE(connect_as(endpoint, files("client")).ok());
}

TEST_F(Tls, the_name_in_the_certificate_must_be_the_hosts) {
  write("server", make_identity("daemon", &authority, "DNS:somewhere.example"));
  auto endpoint = serve([](Exchange& exchange) { EXPECT_TRUE(exchange.respond(200, {}, "").ok()); });
  auto client = connect_as(endpoint, files("client"));
  ASSERT_FALSE(client.ok());
  EXPECT_THAT(client.error().text(), HasSubstr("IP address mismatch"));
  EXPECT_TRUE(connect_as(endpoint, files("client", false)).ok());
}

TEST_F(Tls, a_hijacked_stream_ends_one_direction_before_the_other) {
  auto endpoint = serve([](Exchange& exchange) {
    auto taken = exchange.hijack("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    ASSERT_TRUE(taken.ok());
    auto heard = linux::read_all(taken->socket.get());  // until the client's half-close
    ASSERT_TRUE(heard.ok());
    EXPECT_TRUE(linux::write_all(taken->socket.get(), concat(taken->pending, *heard, " heard")).ok());
  });
  auto client = connect_as(endpoint, files("client"));
  ASSERT_TRUE(client.ok()) << client.error().text();
  auto answer = (*client)->send("POST", "/attach", {{"Connection", "Upgrade"}, {"Upgrade", "tcp"}}, "");
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  ASSERT_EQ(answer->status, 101);
  auto stream = (*client)->release();
  client->reset();  // the stream lives on without its client
  const std::string data(200'000, 'd');
  ASSERT_TRUE(linux::write_all(stream.socket.get(), data).ok());
  ASSERT_TRUE(linux::shutdown(stream.socket.get(), SHUT_WR).ok());
  EXPECT_EQ(concat(stream.pending, linux::read_all(stream.socket.get()).value_or("")), data + " heard");
}

TEST_F(Tls, keys_that_cannot_be_used_are_named) {
  auto refused = [](const TlsFiles& files) {
    auto context = TlsContext::create_server(files);
    return context.ok() ? std::string() : context.error().text();
  };
  auto wrong = files("server");
  wrong.key = folder + "/client.key";
  EXPECT_THAT(refused(wrong), HasSubstr("does not belong"));
  wrong.key = folder + "/nosuch.key";
  EXPECT_THAT(refused(wrong), HasSubstr("nosuch.key"));
  wrong = files("server");
  wrong.ca = "";
  EXPECT_THAT(refused(wrong), HasSubstr("CA"));
}

TEST_F(Tls, a_peer_that_never_speaks_costs_a_connection_and_no_more) {
  auto endpoint = serve([](Exchange& exchange) { EXPECT_TRUE(exchange.respond(200, {}, "").ok()); });
  const auto port = parse_integer<std::uint16_t>(split_last(endpoint, ':').after);
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(std::move(linux::connect_tcp_socket({"127.0.0.1", *port}, 5000)).value());
  ASSERT_TRUE(linux::write_all(silent[0].get(), "GET / HTTP/1.1\r\n\r\n").ok());
  auto client = connect_as(endpoint, files("client"));
  ASSERT_TRUE(client.ok());
  EXPECT_TRUE((*client)->send("GET", "/", {}, "").ok());
}

}  // namespace
}  // namespace caisson::wire
