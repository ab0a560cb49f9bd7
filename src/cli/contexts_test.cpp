// Contexts: docker's folder written and read, archives of anybody's making, what is chosen, and ssh's arguments.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cli/context.hpp"
#include "cli/context_store.hpp"
#include "cli/dial.hpp"
#include "cli/fake_daemon.hpp"
#include "image/tar_writer.hpp"

namespace caisson::cli {
namespace {

class contexts : public testing::Test {
 protected:
  contexts() {
    for (const char* name : {"DOCKER_CONTEXT", "CAISSON_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"}) unsetenv(name);
    setenv("DOCKER_CONFIG", (daemon_.folder() + "/config").c_str(), 1);
  }
  ~contexts() override {
    unsetenv("DOCKER_CONFIG");
    unsetenv("DOCKER_CONTEXT");
    unsetenv("CAISSON_HOST");
  }
  // Without -H: the contexts are to choose the daemon.
  FakeDaemon::Outcome run(const std::vector<std::string>& words) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    FakeDaemon::Outcome outcome;
    outcome.code = run_command_line(words);
    outcome.out = testing::internal::GetCapturedStdout();
    outcome.err = testing::internal::GetCapturedStderr();
    return outcome;
  }
  ContextStore store() { return ContextStore(daemon_.folder() + "/config"); }
  std::string file(const std::string& name, const std::string& text) {
    const std::string path = concat(daemon_.folder(), "/", name);
    EXPECT_TRUE(linux::write_file(path, text).ok());
    return path;
  }

  FakeDaemon daemon_;
};

TEST_F(contexts, what_docker_writes_is_written_byte_for_byte) {
  const std::string ca = file("ca.pem", "CA");
  auto made = run({"context", "create", "one", "--description", "a desc", "--docker", concat("host=tcp://1.2.3.4:2376,ca=", ca)});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.out, "one\n");
  EXPECT_EQ(made.err, "Successfully created context \"one\"\n");
  const std::string id = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";  // sha256 of "one", as docker 28 named it
  const std::string folder = daemon_.folder() + "/config/contexts";
  EXPECT_EQ(linux::read_file(concat(folder, "/meta/", id, "/meta.json")).value_or(""),
            R"({"Name":"one","Metadata":{"Description":"a desc"},"Endpoints":{"docker":{"Host":"tcp://1.2.3.4:2376","SkipTLSVerify":false}}})");
  EXPECT_EQ(linux::read_file(concat(folder, "/tls/", id, "/docker/ca.pem")).value_or(""), "CA");
  EXPECT_EQ(linux::stat(concat(folder, "/tls/", id, "/docker/ca.pem"))->st_mode & 07777U, 0600U);
}

TEST_F(contexts, a_context_names_the_daemon_once_it_is_in_use_or_named) {
  daemon_.on_json("GET /containers/json", 200, "[]");
  ASSERT_EQ(run({"context", "create", "mine", "--docker", "host=" + daemon_.endpoint()}).code, 0);
  EXPECT_EQ(run({"--context", "mine", "ps", "-q"}).code, 0);
  EXPECT_EQ(run({"context", "use", "mine"}).code, 0);
  EXPECT_EQ(run({"context", "show"}).out, "mine\n");
  EXPECT_EQ(run({"ps", "-q"}).code, 0);
  EXPECT_EQ(daemon_.take_requests().size(), 2U);
  setenv("DOCKER_CONTEXT", "mine", 1);
  EXPECT_EQ(run({"context", "use", "default"}).code, 0);
  EXPECT_EQ(run({"context", "show"}).out, "mine\n") << "the environment comes before the choice";
  unsetenv("DOCKER_CONTEXT");
  EXPECT_EQ(run({"context", "show"}).out, "default\n");
  auto both = run({"-H", daemon_.endpoint(), "--context", "mine", "ps"});
  EXPECT_EQ(both.code, 1);
  EXPECT_NE(both.err.find("conflicting options: cannot specify both --host and --context"), std::string::npos) << both.err;
}

TEST_F(contexts, a_host_in_the_environment_comes_before_the_choice) {
  ASSERT_EQ(run({"context", "create", "mine", "--docker", "host=unix:///nowhere"}).code, 0);
  ASSERT_EQ(run({"context", "use", "mine"}).code, 0);
  setenv("CAISSON_HOST", daemon_.endpoint().c_str(), 1);
  EXPECT_EQ(run({"context", "show"}).out, "default\n");
  EXPECT_NE(run({"context", "use", "mine"}).err.find("CAISSON_HOST overrides"), std::string::npos);
}

TEST_F(contexts, dockers_own_current_context_changes_nothing_here) {
  ASSERT_TRUE(linux::mkdir(daemon_.folder() + "/config", 0700).ok());
  file("config/config.json", R"({"currentContext":"elsewhere","auths":{}})");
  EXPECT_EQ(run({"context", "show"}).out, "default\n");
  ASSERT_EQ(run({"context", "create", "mine", "--docker", "host=unix:///x"}).code, 0);
  ASSERT_EQ(run({"context", "use", "mine"}).code, 0);
  EXPECT_EQ(linux::read_file(daemon_.folder() + "/config/config.json").value_or(""), R"({"currentContext":"elsewhere","auths":{}})");
}

TEST_F(contexts, the_list_marks_the_one_in_use_and_says_when_it_is_gone) {
  ASSERT_EQ(run({"context", "create", "two", "--docker", "host=tcp://h:1"}).code, 0);
  ASSERT_EQ(run({"context", "use", "two"}).code, 0);
  EXPECT_EQ(run({"context", "ls", "-q"}).out, "default\ntwo\n");
  EXPECT_NE(run({"context", "ls"}).out.find("two *"), std::string::npos);
  setenv("DOCKER_CONTEXT", "gone", 1);
  auto listed = run({"context", "ls"});
  EXPECT_EQ(listed.code, 0);
  EXPECT_NE(listed.out.find("context \"gone\": context not found"), std::string::npos) << listed.out;
}

TEST_F(contexts, wrong_names_and_settings_are_refused_in_dockers_words) {
  auto refused = [&](std::vector<std::string> words, std::string_view with) {
    words.insert(words.begin(), "context");
    auto outcome = run(words);
    EXPECT_EQ(outcome.code, 1) << with;
    EXPECT_NE(outcome.err.find(with), std::string::npos) << outcome.err;
  };
  refused({"create", "default"}, "\"default\" is a reserved context name");
  refused({"create", "b/ad"}, "context name \"b/ad\" is invalid, names are validated against regexp");
  refused({"create", "aa", "--docker", "foo=x"}, "unable to create docker endpoint config: unrecognized config key: foo");
  refused({"create", "aa", "--docker", "host=x"}, "unable to parse docker host `x`");
  refused({"create", "aa", "--docker", "host=tcp://h:1,ca=/nope"}, "open /nope");
  refused({"create", "aa", "--docker", "host=tcp://h:1,skip-tls-verify=q"}, "skip-tls-verify: parsing \"q\": invalid syntax");
  refused({"create", "aa", "--docker", "host"}, "must be formatted as key=value");
  refused({"create", "aa", "--from", "nope"}, "context \"nope\": context not found");
  refused({"use", "nope"}, "context \"nope\": context not found");
  refused({"rm", "default"}, "context \"default\" cannot be removed");
  refused({"rm", "nope"}, "context \"nope\" does not exist");
  EXPECT_EQ(run({"context", "rm", "-f", "nope"}).code, 0);
  ASSERT_EQ(run({"context", "create", "aa"}).code, 0);
  refused({"create", "aa"}, "context \"aa\" already exists");
  ASSERT_EQ(run({"context", "use", "aa"}).code, 0);
  refused({"rm", "aa"}, "context \"aa\" is in use, set -f flag to force remove");
  EXPECT_EQ(run({"context", "rm", "-f", "aa"}).code, 0);
  EXPECT_EQ(run({"context", "show"}).out, "default\n");
}

TEST_F(contexts, an_update_replaces_the_endpoint_and_keeps_the_rest) {
  const std::string key = file("key.pem", "KEY");
  ASSERT_EQ(run({"context", "create", "aa", "--description", "kept", "--docker", concat("host=tcp://h:1,key=", key)}).code, 0);
  ASSERT_EQ(run({"context", "update", "aa", "--docker", "host=tcp://h:2"}).code, 0);
  auto stored = store().find("aa");
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->host, "tcp://h:2");
  EXPECT_EQ(stored->description, "kept");
  EXPECT_TRUE(store().keys("aa")->empty()) << "docker drops the keys of an endpoint that is replaced";
}

TEST_F(contexts, an_export_comes_back_by_an_import) {
  const std::string ca = file("ca.pem", "CA");
  ASSERT_EQ(run({"context", "create", "aa", "--description", "d", "--docker", concat("host=tcp://h:1,ca=", ca)}).code, 0);
  const std::string archive = daemon_.folder() + "/aa.tar";
  ASSERT_EQ(run({"context", "export", "aa", archive}).code, 0);
  EXPECT_EQ(run({"context", "export", "aa", archive}).code, 1) << "nothing is written over";
  EXPECT_EQ(linux::stat(archive)->st_mode & 07777U, 0600U) << "keys are in it";
  ASSERT_EQ(run({"context", "import", "bb", archive}).code, 0);
  EXPECT_EQ(store().find("bb")->host, "tcp://h:1");
  EXPECT_EQ(store().find("bb")->name, "bb");
  EXPECT_EQ(store().keys("bb")->at("docker/ca.pem"), "CA");
  EXPECT_EQ(run({"context", "import", "bb", archive}).code, 1);
}

std::string archive_of(const std::vector<std::pair<image::TarEntry, std::string>>& entries) {
  std::string out;
  image::TarWriter tar([&](std::string_view bytes) -> Status {
    out += bytes;
    return {};
  });
  for (auto [entry, text] : entries) {
    entry.size_bytes = text.size();
    EXPECT_TRUE(tar.add(entry, text).ok());
  }
  EXPECT_TRUE(tar.finish().ok());
  return out;
}

TEST(context_archives, hostile_ones_are_refused) {
  auto entry = [](std::string name, image::TarType type = image::TarType::file) {
    image::TarEntry out;
    out.name = std::move(name);
    out.type = type;
    if (type == image::TarType::symlink) out.link_target = "/etc/passwd";
    return out;
  };
  const std::string meta = R"({"Name":"x","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://h:1"}}})";
  EXPECT_TRUE(unpack_context_archive(archive_of({{entry("meta.json"), meta}, {entry("tls/docker/ca.pem"), "CA"}})).ok());
  for (const auto& bad : {entry("../meta.json"), entry("tls/../../x"), entry("/etc/passwd"), entry("tls/docker/a/b"), entry("tls/docker"), entry("other"), entry("tls/docker/ca.pem", image::TarType::symlink)})
    EXPECT_FALSE(unpack_context_archive(archive_of({{entry("meta.json"), meta}, {bad, ""}})).ok()) << bad.name;
  EXPECT_FALSE(unpack_context_archive(archive_of({{entry("tls/docker/ca.pem"), "CA"}})).ok()) << "no metadata";
  EXPECT_FALSE(unpack_context_archive(archive_of({{entry("meta.json"), "[1]"}})).ok());
  EXPECT_FALSE(unpack_context_archive(archive_of({{entry("meta.json"), meta}, {entry("tls/docker/ca.pem"), std::string(2 << 20, 'x')}})).ok()) << "no key is that large";
  EXPECT_FALSE(unpack_context_archive("PK\x03\x04rest").ok());
  EXPECT_FALSE(unpack_context_archive("junk").ok());
}

TEST(ssh_endpoints, the_command_is_dockers_with_our_program_first) {
  auto command = ssh_command("ssh://me@far:22");
  ASSERT_TRUE(command.ok()) << command.error().text();
  EXPECT_EQ(std::vector<std::string>(command->begin(), command->end() - 1), (std::vector<std::string>{"ssh", "-o", "ConnectTimeout=30", "-T", "-l", "me", "-p", "22", "--", "far"}));
  EXPECT_EQ(command->back(), "exec /bin/sh -c 'command -v caisson >/dev/null 2>&1 && exec caisson system dial-stdio; exec docker system dial-stdio'");
  EXPECT_NE(ssh_command("ssh://far/run/it's.sock")->back().find(R"(unix:///run/it)"), std::string::npos);
  EXPECT_EQ(ssh_command("ssh://[::1]:2222")->at(7), "::1");
}

TEST(ssh_endpoints, what_ssh_would_take_for_an_option_is_refused) {
  for (const char* bad : {"ssh://", "ssh://-oProxyCommand=x", "ssh://-l@h", "ssh://u:secret@h", "ssh://h?x", "ssh://h:port", "ssh://u@"}) EXPECT_FALSE(ssh_command(bad).ok()) << bad;
}

TEST_F(contexts, something_near_is_offered_for_what_is_not_there) {
  daemon_.on_json("GET /containers/json", 200, R"([{"Names":["/website"]}])");
  daemon_.on_json("GET /images/json", 200, R"([{"RepoTags":["nginx:latest","debian:bookworm"]}])");
  daemon_.on_json("GET /networks", 200, R"([{"Name":"backend"}])");
  daemon_.on_json("GET /volumes", 200, R"({"Volumes":[{"Name":"data"}]})");
  for (const char* route : {"GET /*", "POST /*", "DELETE /*"}) daemon_.on_json(route, 404, R"({"message":"No such thing"})");
  auto hint = [&](std::vector<std::string> words) {
    auto outcome = daemon_.run(std::move(words));
    EXPECT_NE(outcome.code, 0);
    auto at = outcome.err.find("hint: ");
    return at == std::string::npos ? "" : outcome.err.substr(at + 6, outcome.err.find('\n', at) - at - 6);
  };
  EXPECT_EQ(hint({"stop", "websiet"}), "did you mean 'website'?");
  EXPECT_EQ(hint({"logs", "websit"}), "did you mean 'website'?");
  EXPECT_EQ(hint({"rmi", "ngnix"}), "did you mean 'nginx'?");
  EXPECT_EQ(hint({"history", "debian:bookwrom"}), "did you mean 'debian:bookworm'?");
  EXPECT_EQ(hint({"volume", "rm", "dtaa"}), "did you mean 'data'?");
  EXPECT_EQ(hint({"network", "rm", "backedn"}), "did you mean 'backend'?");
  EXPECT_EQ(hint({"inspect", "backedn"}), "did you mean the network 'backend'?");
  EXPECT_EQ(hint({"stop", "quite-another"}), "");
}

TEST_F(contexts, what_is_refused_says_why) {
  auto squash = run({"build", "--squash", "."});
  EXPECT_EQ(squash.code, 125);
  EXPECT_NE(squash.err.find("--squash is not supported: "), std::string::npos) << squash.err;
  auto swarm = run({"service", "ls", "--format", "x"});
  EXPECT_EQ(swarm.code, 1);
  EXPECT_NE(swarm.err.find("is not supported: this engine runs on one host"), std::string::npos) << swarm.err;
}

}  // namespace
}  // namespace caisson::cli
