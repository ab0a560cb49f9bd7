// docker's config.json, as docker and its helpers write it.
#include "cli/credentials.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::cli {
namespace {

class credentials : public testing::Test {
 protected:
  credentials() : folder_("/tmp/caisson-test-credentials-" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) + std::to_string(::getpid())) {
    std::filesystem::create_directories(folder_);
  }
  ~credentials() override { std::filesystem::remove_all(folder_); }
  CredentialFile open(const std::string& text) {
    EXPECT_TRUE(linux::write_file(path(), text).ok());
    return *CredentialFile::open(path());
  }
  [[nodiscard]] std::string path() const { return folder_ + "/config.json"; }
  std::string folder_;
};

TEST_F(credentials, docker_hub_has_a_key_of_its_own) {
  for (const char* server : {"", "docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"})
    EXPECT_EQ(credentials_key(server), "https://index.docker.io/v1/");
  EXPECT_EQ(credentials_key("https://r.example:5000/v2/"), "r.example:5000");
}

TEST_F(credentials, are_read_as_docker_writes_them) {
  auto file = open(R"({"auths":{"r.example":{"auth":"dXNlcjpwYTpzcw=="},"https://old.example":{"auth":"YTpi"},"t.example":{"auth":"dXNlcjo=","identitytoken":"tok"}}})");
  EXPECT_EQ(file.find("r.example")->username, "user");
  EXPECT_EQ(file.find("r.example")->password, "pa:ss");
  EXPECT_EQ(file.find("old.example")->username, "a");
  EXPECT_EQ(file.find("t.example")->identity_token, "tok");
  EXPECT_TRUE(file.find("none.example")->empty());
}

TEST_F(credentials, a_missing_file_holds_none_and_a_broken_one_is_an_error) {
  EXPECT_TRUE(CredentialFile::open(folder_ + "/missing.json")->find("r.example")->empty());
  for (const char* text : {"[]", "{", "5"}) {
    ASSERT_TRUE(linux::write_file(path(), text).ok());
    EXPECT_FALSE(CredentialFile::open(path()).ok()) << text;
  }
  EXPECT_FALSE(open(R"({"auths":{"r.example":{"auth":"!"}}})").find("r.example").ok());
}

TEST_F(credentials, keeping_them_leaves_the_rest_of_the_file_alone_and_unreadable_to_others) {
  auto file = open(R"({"psFormat":"table","auths":{"a.example":{"auth":"YTpi"}}})");
  bool is_plain = false;
  ASSERT_TRUE(file.keep("r.example", {"user", "secret", ""}, is_plain).ok());
  EXPECT_TRUE(is_plain);
  struct ::stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  auto again = *CredentialFile::open(path());
  EXPECT_EQ(again.find("r.example")->password, "secret");
  EXPECT_EQ(again.find("a.example")->username, "a");
  EXPECT_NE(linux::read_file(path())->find("psFormat"), std::string::npos);
  EXPECT_TRUE(*again.forget("r.example"));
  EXPECT_FALSE(*again.forget("r.example"));
  EXPECT_TRUE(CredentialFile::open(path())->find("r.example")->empty());
}

TEST_F(credentials, with_a_token_the_password_is_not_kept) {
  auto file = open("{}");
  bool is_plain = false;
  ASSERT_TRUE(file.keep("r.example", {"user", "secret", "token"}, is_plain).ok());
  EXPECT_EQ(linux::read_file(path())->find(base64_encode("user:secret")), std::string::npos);
  EXPECT_EQ(file.find("r.example")->identity_token, "token");
}

TEST_F(credentials, the_helper_of_a_registry_comes_before_the_general_one) {
  auto file = open(R"({"credsStore":"pass","credHelpers":{"r.example":"own"}})");
  EXPECT_EQ(file.helper_for("r.example"), "own");
  EXPECT_EQ(file.helper_for("other.example"), "pass");
  EXPECT_EQ(open("{}").helper_for("r.example"), "");
}

TEST_F(credentials, travel_as_docker_sends_them) {
  EXPECT_EQ(auth_header({}, "r.example"), "e30=");
  auto text = base64_decode(auth_header({"u", "p\?\?>", ""}, "r.example"));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "{\"username\":\"u\",\"password\":\"p\?\?>\",\"serveraddress\":\"r.example\"}");
}

}  // namespace
}  // namespace caisson::cli
