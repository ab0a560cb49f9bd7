// The gate: what is recorded of an image's origins, and who passes under which policy.
#include "image/trust_gate.hpp"

#include <gtest/gtest.h>

#include "image/test_support.hpp"
#include "trust/key.hpp"
#include "trust/simple_signing.hpp"

namespace caisson::image {
namespace {

using trust::FoundSignature;
using trust::PrivateKey;
using trust::SignatureFormat;

const Digest image_id = sha256_of("config");
const Digest manifest = sha256_of("manifest");

class Gate : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = state::open_sqlite_store({folder_.path() + "/state.db"});
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    store_ = std::move(opened->store);
    reopen();
  }
  /// As after a new start of the daemon: nothing is remembered but the records.
  void reopen() {
    TrustOptions options;
    options.policy.usual = {policy_path()};
    gate_ = std::make_unique<TrustGate>(options, *store_);
  }
  [[nodiscard]] std::string policy_path() const { return folder_.path() + "/policy.json"; }
  void set_policy(const std::string& text) { ASSERT_TRUE(linux::write_file(policy_path(), text).ok()); }
  /// Everything from r.example has to be signed by `key`.
  void need_signature(const PrivateKey& key) {
    ASSERT_TRUE(linux::write_file(folder_.path() + "/k.pub", *key.public_pem()).ok());
    set_policy(R"({"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"r.example":[{"type":"sigstoreSigned","keyPath":")" + folder_.path() + R"(/k.pub"}]}}})");
  }
  void record(const Origin& origin) {
    state::Transaction transaction;
    auto put = gate_->put(transaction, image_id, origin);
    ASSERT_TRUE(put.ok()) << put.error().text();
    ASSERT_TRUE(store_->commit(transaction).ok());
  }
  static Origin pulled(const std::string& name, std::vector<FoundSignature> signatures) { return {"docker", name, {manifest}, std::move(signatures)}; }
  static FoundSignature signature(const PrivateKey& key, const std::string& name) {
    auto document = trust::write_simple_signing({manifest, name});
    return {SignatureFormat::cosign, document, *key.sign(trust::sigstore_algorithm(key.kind()), document)};
  }
  std::string use(const std::string& name = "") {
    std::optional<Reference> reference;
    if (!name.empty()) reference = *parse_reference(name);
    auto outcome = gate_->admit_use(image_id, reference);
    return outcome.ok() ? "passes" : outcome.error().text();
  }

  testing_support::Folder folder_;
  std::unique_ptr<state::Store> store_;
  std::unique_ptr<TrustGate> gate_;
  PrivateKey key_ = *PrivateKey::generate(KeyKind::p256);
  PrivateKey other_ = *PrivateKey::generate(KeyKind::p256);
};

TEST_F(Gate, lets_everything_pass_without_a_policy) {
  EXPECT_EQ(use("r.example/x:1"), "passes");
  EXPECT_TRUE(gate_->admit_local("tarball", {}).ok());
}

TEST_F(Gate, judges_by_what_was_kept_and_again_when_the_policy_or_a_key_changes) {
  record(pulled("r.example/x:1", {signature(key_, "r.example/x:1")}));
  need_signature(key_);
  EXPECT_EQ(use("r.example/x:1"), "passes");
  EXPECT_EQ(use("r.example/x:1"), "passes");  // remembered
  need_signature(other_);                     // the same policy text, another key in the file that it names
  EXPECT_NE(use("r.example/x:1").find("none of the policy's keys"), std::string::npos);
  need_signature(key_);
  reopen();
  EXPECT_EQ(use("r.example/x:1"), "passes");
  set_policy("{");
  EXPECT_NE(use("r.example/x:1").find(policy_path()), std::string::npos);
}

TEST_F(Gate, says_what_to_do_about_an_image_whose_signatures_were_not_kept) {
  record(pulled("r.example/x:1", {}));
  need_signature(key_);
  auto outcome = gate_->admit_use(image_id, std::nullopt);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().kind(), ErrorKind::denied);
  EXPECT_NE(outcome.error().hint().find("caisson pull r.example/x:1"), std::string::npos);
  record(pulled("r.example/x:1", {signature(key_, "r.example/x:1")}));  // pulled again: the older origin of that name goes
  EXPECT_EQ(use(), "passes");
}

TEST_F(Gate, takes_any_origin_unless_the_name_is_of_one) {
  need_signature(key_);
  record(pulled("r.example/x:1", {}));
  record(pulled("elsewhere.example/x:1", {}));
  EXPECT_EQ(use("elsewhere.example/x:1"), "passes");
  EXPECT_EQ(use(), "passes");
  EXPECT_EQ(use("alias:1"), "passes");
  EXPECT_NE(use("r.example/x:1").find("scope docker r.example"), std::string::npos);
  EXPECT_NE(use("r.example/x:2").find("scope docker r.example"), std::string::npos);  // another tag of that repository
}

TEST_F(Gate, asks_archives_and_builds_by_their_transports) {
  set_policy(R"({"default":[{"type":"reject"}],"transports":{"docker-archive":{"":[{"type":"insecureAcceptAnything"}]}}})");
  EXPECT_TRUE(gate_->admit_local("docker-archive", manifest).ok());
  EXPECT_FALSE(gate_->admit_local("oci-archive", manifest).ok());
  auto made = gate_->admit_local("containers-storage", manifest);
  ASSERT_TRUE(made.ok());  // made here of what was let in
  record(*made);
  EXPECT_EQ(use(), "passes");
  set_policy(R"({"default":[{"type":"insecureAcceptAnything"}],"transports":{"containers-storage":{"":[{"type":"reject"}]}}})");
  EXPECT_NE(use().find("containers-storage"), std::string::npos);
}

TEST_F(Gate, gives_an_image_of_unknown_origin_the_policys_default) {
  set_policy(R"({"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"insecureAcceptAnything"}]}}})");
  EXPECT_NE(use("r.example/x:1").find("scope default"), std::string::npos);
  set_policy(R"({"default":[{"type":"insecureAcceptAnything"}]})");
  EXPECT_EQ(use("r.example/x:1"), "passes");
}

TEST_F(Gate, forgets_with_the_image_and_refuses_a_broken_record) {
  record(pulled("r.example/x:1", {signature(key_, "r.example/x:1")}));
  need_signature(key_);
  state::Transaction gone;
  TrustGate::erase(gone, image_id);
  ASSERT_TRUE(store_->commit(gone).ok());
  EXPECT_EQ(use(), "passes");  // the default of this policy
  state::Transaction broken;
  broken.put("image/origin/" + image_id.text(), "[{\"digests\":[5]}]");
  ASSERT_TRUE(store_->commit(broken).ok());
  reopen();
  auto outcome = gate_->admit_use(image_id, std::nullopt);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error().kind(), ErrorKind::corrupt);
}

}  // namespace
}  // namespace caisson::image
