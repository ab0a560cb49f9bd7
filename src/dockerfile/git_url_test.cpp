// Tests of what addresses of git repositories say.
#include "dockerfile/git_url.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace caisson::dockerfile {
namespace {

using testing::HasSubstr;

GitSource parsed(std::string_view text) {
  auto source = parse_git_url(text);
  EXPECT_TRUE(source.ok()) << text << ": " << (source.ok() ? "" : source.error().text());
  return source.ok() ? *source : GitSource{};
}

std::string refusal(std::string_view text) {
  auto source = parse_git_url(text);
  EXPECT_FALSE(source.ok()) << text;
  return source.ok() ? "" : source.error().text();
}

TEST(git_url, an_address_is_a_repository_by_its_scheme_or_its_ending) {
  for (const char* text : {"https://h/a.git", "http://h/a.git#v1", "https://h/a.git?ref=x", "git://h/a", "git@h:a", "me.2@h-1.example:a/b.git#x:y", "ssh://h/a", "github.com/a/b"}) EXPECT_TRUE(is_git_url(text)) << text;
  for (const char* text : {"https://h/a", "https://h/a.tar.gz", "https://h/a.gitx", "a.git", "./github.com/a", "https://h/a?x=.git", "a@b", "a@b/c:d", "a/b@c:d", "@h:a", "a@:b", "a@b:", "-a@b:c", "a b@c:d"}) EXPECT_FALSE(is_git_url(text)) << text;
}

TEST(git_url, a_fragment_names_ref_and_folder) {
  EXPECT_EQ(parsed("https://h/a.git").repository, "https://h/a.git");
  EXPECT_EQ(parsed("https://h/a.git").ref, "");
  EXPECT_EQ(parsed("https://h/a.git#v1.2").ref, "v1.2");
  EXPECT_EQ(parsed("https://h/a.git#:sub/dir/").subfolder, "sub/dir");
  const auto both = parsed("git://h/a#feature/x:b");
  EXPECT_EQ(both.repository, "git://h/a");
  EXPECT_EQ(both.ref, "feature/x");
  EXPECT_EQ(both.subfolder, "b");
  EXPECT_EQ(parsed("github.com/a/b#main").repository, "https://github.com/a/b");
  EXPECT_EQ(parsed("https://h/a.git#:../../etc").subfolder, "etc") << "a folder never leads out";
}

TEST(git_url, a_query_says_the_same_and_more) {
  const auto source = parsed("https://h/a.git?tag=v1&subdir=x&checksum=0123ABC&keep-git-dir&submodules=false");
  EXPECT_EQ(source.ref, "refs/tags/v1");
  EXPECT_EQ(source.subfolder, "x");
  EXPECT_EQ(source.commit, "0123abc");
  EXPECT_TRUE(source.keeps_git_dir);
  EXPECT_FALSE(source.has_submodules);
  EXPECT_EQ(parsed("https://h/a.git?branch=b").ref, "refs/heads/b");
  EXPECT_EQ(parsed("https://h/a.git?ref=v1#v1").ref, "v1");
}

TEST(git_url, what_is_wrong_is_named) {
  EXPECT_THAT(refusal("https://h/a.git?ref=a#b"), HasSubstr("two refs, a and b"));
  EXPECT_THAT(refusal("https://h/a.git?nonesuch=1"), HasSubstr("unknown word \"nonesuch\""));
  EXPECT_THAT(refusal("https://h/a.git?keep-git-dir=maybe"), HasSubstr("want true or false"));
  EXPECT_THAT(refusal("https://h/a.git?checksum=12"), HasSubstr("at least seven digits"));
  for (const char* text : {"https://h/a.git#-upload-pack=x", "https://h/a.git#a..b", "https://h/a.git#a b", "https://-oProxy/a.git", "https:///a.git", "https://h /a.git"})
    EXPECT_FALSE(parse_git_url(text).ok()) << text;
}

TEST(git_url, by_ssh_it_has_a_user_and_a_host) {
  const auto brief = parsed("git@h.example:org/a.git#v1:sub");
  EXPECT_TRUE(brief.is_ssh);
  EXPECT_EQ(brief.repository, "git@h.example:org/a.git");
  EXPECT_EQ(brief.ref, "v1");
  EXPECT_EQ(brief.subfolder, "sub");
  EXPECT_EQ(ssh_host(brief), "h.example");
  const auto whole = parsed("ssh://me@h:2222/a.git?branch=b");
  EXPECT_TRUE(whole.is_ssh);
  EXPECT_EQ(whole.repository, "ssh://me@h:2222/a.git");
  EXPECT_EQ(whole.ref, "refs/heads/b");
  EXPECT_EQ(ssh_host(whole), "[h]:2222");
  EXPECT_EQ(ssh_host(parsed("ssh://h:22/a")), "h");
  EXPECT_EQ(ssh_host(parsed("ssh://u@[::1]:2222/a")), "[::1]:2222");
  EXPECT_EQ(ssh_host(parsed("ssh://u@[::1]/a")), "::1");
  EXPECT_FALSE(parsed("https://h/a.git").is_ssh);
  for (const char* text : {"ssh://-oProxyCommand=x/a", "ssh://git@-oProxyCommand=x/a", "git@-oProxyCommand=x:a", "ssh://u:secret@h/a", "ssh:///a", "ssh://u@/a", "ssh://h:x/a", "ssh://h:/a", "ssh://[h/a",
                           "ssh://[::1]2/a", "ssh://[]/a", "git@h", "git@:a", "git@h:"})
    EXPECT_FALSE(parse_git_url(text).ok()) << text;
}

TEST(git_url, a_commit_that_is_expected_twice_is_the_same) {
  auto source = parsed("https://h/a.git?checksum=0123456");
  EXPECT_TRUE(source.expect_commit("0123456").ok());
  EXPECT_FALSE(source.expect_commit("7654321").ok());
  EXPECT_FALSE(source.expect_commit("sha256:01").ok());
}

}  // namespace
}  // namespace caisson::dockerfile
