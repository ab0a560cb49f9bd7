// Where registries are: naming, mirrors, hosts.toml; and what of an index is for this machine.
#include <gtest/gtest.h>

#include <filesystem>

#include "image/registries.hpp"
#include "image/registry_hosts.hpp"
#include "image/test_support.hpp"

namespace caisson::image {
namespace {

std::vector<std::string> urls_of(const Result<std::vector<RegistryEndpoint>>& endpoints) {
  std::vector<std::string> out;
  if (!endpoints.ok()) return {endpoints.error().text()};
  for (const auto& endpoint : *endpoints) out.push_back(concat(endpoint.url, endpoint.is_origin ? "" : " mirror", endpoint.skip_verify ? " unverified" : ""));
  return out;
}

using Texts = std::vector<std::string>;

TEST(endpoints, docker_hub_has_another_name_and_mirrors_come_first) {
  RegistryOptions options;
  options.mirrors = {"http://127.0.0.1:5000", "https://mirror.example/cache/"};
  EXPECT_EQ(urls_of(plan_endpoints("docker.io", options, {})),
            (Texts{"http://127.0.0.1:5000/v2 mirror", "https://mirror.example/cache/v2 mirror", "https://registry-1.docker.io/v2"}));
  // A mirror of Docker Hub is nobody else's.
  EXPECT_EQ(urls_of(plan_endpoints("quay.io", options, {})), (Texts{"https://quay.io/v2"}));
}

TEST(endpoints, loopback_and_insecure_registries_may_do_without_tls) {
  RegistryOptions options;
  options.insecure = {"old.example:5000", "10.1.0.0/16"};
  for (const char* domain : {"localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000", "old.example:5000", "10.1.2.3:80"})
    EXPECT_EQ(urls_of(plan_endpoints(domain, options, {})), (Texts{concat("https://", domain, "/v2 unverified"), concat("http://", domain, "/v2")}));
  for (const char* domain : {"old.example", "10.2.0.1", "localhost.example", "1270.0.0.1", "128.0.0.1"})
    EXPECT_EQ(urls_of(plan_endpoints(domain, options, {})), (Texts{concat("https://", domain, "/v2")}));
}

TEST(endpoints, a_known_certificate_is_insisted_on) {
  RegistryFiles files;
  files.ca_pem = "PEM";
  auto endpoints = plan_endpoints("127.0.0.1:5000", {}, files);
  ASSERT_TRUE(endpoints.ok());
  EXPECT_FALSE((*endpoints)[0].skip_verify);
  EXPECT_EQ((*endpoints)[0].ca_pem, "PEM");
}

TEST(hosts_toml, is_read_in_the_files_order) {
  auto hosts = parse_hosts_toml(R"(
server = "https://registry-1.docker.io"
[host."https://z.example"]
  capabilities = ["pull", "resolve"]
  ca = "z.crt"
  skip_verify = true
[host."http://a.example:5000/path"]
  capabilities = ["pull"]
  override_path = true
  client = [["c.cert", "c.key"]]
  [host."http://a.example:5000/path".header]
    x-one = ["a", "b"]
)",
                                "docker.io");
  ASSERT_TRUE(hosts.ok()) << hosts.error().text();
  ASSERT_EQ(hosts->size(), 3U);
  const auto& z = (*hosts)[0];
  EXPECT_EQ(z.endpoint.url, "https://z.example/v2");
  EXPECT_FALSE(z.endpoint.is_origin);
  EXPECT_FALSE(z.endpoint.can_push);
  EXPECT_TRUE(z.endpoint.skip_verify);
  EXPECT_EQ(z.ca_files, (Texts{"z.crt"}));
  const auto& a = (*hosts)[1];
  EXPECT_EQ(a.endpoint.url, "http://a.example:5000/path");
  EXPECT_FALSE(a.endpoint.can_resolve);
  EXPECT_EQ(a.client_certificate_file, "c.cert");
  EXPECT_EQ(a.client_key_file, "c.key");
  EXPECT_EQ(a.endpoint.headers.at("x-one"), "a, b");
  EXPECT_EQ((*hosts)[2].endpoint.url, "https://registry-1.docker.io/v2");
  EXPECT_TRUE((*hosts)[2].endpoint.is_origin);
}

TEST(hosts_toml, without_hosts_is_the_registry_itself) {
  auto hosts = parse_hosts_toml("skip_verify = true\n", "r.example");
  ASSERT_TRUE(hosts.ok());
  ASSERT_EQ(hosts->size(), 1U);
  EXPECT_EQ((*hosts)[0].endpoint.url, "https://r.example/v2");
  EXPECT_TRUE((*hosts)[0].endpoint.skip_verify);
}

TEST(hosts_toml, that_is_wrong_is_refused_with_its_key) {
  for (const auto& [text, words] : std::vector<std::pair<std::string, std::string>>{
           {"server = ", "line 1"},
           {"[host.\"https://x\"]\ncapabilities = [\"fly\"]", "capabilities"},
           {"[host.\"https://x\"]\nskip_verify = 1", "skip_verify"},
           {"[host.\"https://x\"]\nca = 5", "ca"},
           {"[host.\"ftp://x\"]\n", "mirror"},
           {"[host.\"https://x\".header]\na = \"b\\nc\"", "header"},
           {"host = { \"https://x\" = 5 }", "want a table"},
       }) {
    auto hosts = parse_hosts_toml(text, "r.example");
    ASSERT_FALSE(hosts.ok()) << text;
    EXPECT_NE(hosts.error().text().find(words), std::string::npos) << hosts.error().text();
  }
}

TEST(hosts_folder, of_the_registry_comes_before_the_default) {
  testing_support::Folder folder;
  RegistryOptions options;
  options.hosts_dir = folder.path();
  std::filesystem::create_directories(folder.path() + "/_default");
  std::filesystem::create_directories(folder.path() + "/r.example_5000_");
  ASSERT_TRUE(linux::write_file(folder.path() + "/_default/hosts.toml", "server = \"https://default.example\"").ok());
  ASSERT_TRUE(linux::write_file(folder.path() + "/r.example_5000_/ca.crt", "PEM").ok());
  EXPECT_EQ(urls_of(endpoints_of("other.example", options)), (Texts{"https://default.example/v2"}));
  auto named = endpoints_of("r.example:5000", options);
  EXPECT_EQ(urls_of(named), (Texts{"https://r.example:5000/v2"}));
  EXPECT_EQ(named->at(0).ca_pem, "PEM\n");
}

TEST(mirrors_and_insecure_registries, are_checked) {
  for (const char* text : {"http://m", "https://m.example:5000/path"}) EXPECT_TRUE(check_mirror(text).ok()) << text;
  for (const char* text : {"m.example", "ftp://m", "http://", "http://u@m", "http://m?x", "http://m m"}) EXPECT_FALSE(check_mirror(text).ok()) << text;
  for (const char* text : {"r.example", "r.example:5000", "10.0.0.0/8", "[::1]:5000"}) EXPECT_TRUE(check_insecure(text).ok()) << text;
  for (const char* text : {"http://r.example", "10.0.0.0/40", "r.example/x", "", "a b"}) EXPECT_FALSE(check_insecure(text).ok()) << text;
}

TEST(servers, of_a_login_are_the_domains_of_references) {
  for (const auto& [server, domain] : std::vector<std::pair<std::string, std::string>>{{"", "docker.io"},
                                                                                      {"https://index.docker.io/v1/", "docker.io"},
                                                                                      {"docker.io", "docker.io"},
                                                                                      {"https://r.example/v2/", "r.example"},
                                                                                      {"localhost:5000", "localhost:5000"},
                                                                                      {"registry", "registry"}}) {
    auto found = domain_of_server(server);
    ASSERT_TRUE(found.ok()) << server;
    EXPECT_EQ(*found, domain);
  }
  for (const char* server : {"..", "a b", "x/../y:z@"}) {
    auto found = domain_of_server(server);
    EXPECT_TRUE(!found.ok() || *found == "x") << server;
  }
}

Descriptor entry(const std::string& os, const std::string& architecture, const std::string& variant, char digit) {
  Descriptor descriptor;
  descriptor.digest = *Digest::parse("sha256:" + std::string(64, digit));
  descriptor.platform = Platform{os, architecture, variant};
  return descriptor;
}

TEST(index, gives_the_nearest_variant_and_no_attestation) {
  Index index;
  index.manifests = {entry("unknown", "unknown", "", '0'), entry("linux", "arm", "v5", '1'), entry("linux", "arm", "v7", '2'), entry("linux", "arm", "v6", '3'),
                     entry("linux", "amd64", "", '4')};
  EXPECT_EQ(choose_platform(index, {"linux", "arm", "v7"})->digest.hex()[0], '2');
  EXPECT_EQ(choose_platform(index, {"linux", "arm", "v6"})->digest.hex()[0], '3');
  EXPECT_EQ(choose_platform(index, {"linux", "amd64", ""})->digest.hex()[0], '4');
  auto none = choose_platform(index, {"linux", "s390x", ""});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().kind(), ErrorKind::not_found);
  EXPECT_NE(none.error().text().find("no matching manifest for linux/s390x in the manifest list entries"), std::string::npos);
}

TEST(search, hubs_answer_is_read_and_anything_else_is_corrupt) {
  auto hits = parse_search(R"({"num_results":1,"results":[{"name":"alpine","description":null,"star_count":9,"is_official":true}]})");
  ASSERT_TRUE(hits.ok()) << hits.error().text();
  ASSERT_EQ(hits->size(), 1U);
  EXPECT_EQ((*hits)[0].stars, 9);
  EXPECT_TRUE((*hits)[0].is_official);
  EXPECT_FALSE(parse_search("<html>").ok());
  EXPECT_FALSE(parse_search(R"({"results":[{"name":5}]})").ok());
}

TEST(frames, survive_any_cut) {
  const auto bytes = make_frame(1, "one") + make_frame(2, "") + make_frame(3, "three");
  for (std::size_t step = 1; step <= bytes.size(); ++step) {
    FrameSplitter splitter("peer", 100);
    std::vector<std::string> got;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      auto status = splitter.add(std::string_view(bytes).substr(at, step), [&](std::uint8_t type, std::string_view payload) -> Status {
        got.push_back(concat(static_cast<int>(type), payload));
        return {};
      });
      ASSERT_TRUE(status.ok());
    }
    EXPECT_EQ(got, (Texts{"1one", "2", "3three"}));
  }
  FrameSplitter splitter("peer", 2);
  EXPECT_FALSE(splitter.add(bytes, [](std::uint8_t, std::string_view) -> Status { return {}; }).ok());
}

}  // namespace
}  // namespace caisson::image
