// Bodies of create and update: what is understood, and what is refused by name.
#include "api/create_body.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/query.hpp"

namespace caisson::api {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Result<engine::ContainerSpec> read(std::string_view text) {
  auto document = parse_json(text, "test");
  EXPECT_TRUE(document.ok()) << text;
  return read_create_body(*document);
}

TEST(create_body, the_clis_own_body_is_understood) {
  auto spec = read(R"({"Hostname":"h","Domainname":"","User":"1:2","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,
    "ExposedPorts":{"8080/tcp":{}},"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":["A=b"],"Cmd":["sh"],"Image":"alpine",
    "Volumes":{"/v":{}},"WorkingDir":"/w","Entrypoint":null,"OnBuild":null,"Labels":{"l":"1"},"StopSignal":"INT","StopTimeout":3,
    "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":1000000000},
    "HostConfig":{"Binds":["vol0:/data:ro","/h:/b:z,rshared"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{"max-size":"1m"}},
      "NetworkMode":"default","PortBindings":{"8080/tcp":[{"HostIp":"","HostPort":"18081"}],"53/udp":[{"HostIp":"127.0.0.1","HostPort":""}]},
      "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"","VolumesFrom":null,"ConsoleSize":[33,99],
      "CapAdd":["CAP_NET_ADMIN"],"CapDrop":null,"CgroupnsMode":"","Dns":["1.1.1.1"],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":["a:1.2.3.4"],
      "GroupAdd":["7"],"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":5,"PidMode":"host","Privileged":false,"PublishAllPorts":false,
      "ReadonlyRootfs":true,"SecurityOpt":["no-new-privileges"],"UTSMode":"","UsernsMode":"host","ShmSize":1024,"Isolation":"",
      "CpuShares":5,"Memory":67108864,"NanoCpus":500000000,"CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[{"Path":"/dev/x","Rate":9}],
      "CpuPeriod":0,"CpuQuota":0,"CpusetCpus":"0","CpusetMems":"","Devices":[{"PathOnHost":"/dev/null","PathInContainer":"/dev/n","CgroupPermissions":"rwm"}],
      "DeviceCgroupRules":["c 1:3 r"],"DeviceRequests":null,"MemoryReservation":0,"MemorySwap":-1,"MemorySwappiness":-1,"OomKillDisable":false,
      "PidsLimit":0,"Ulimits":[{"Name":"nofile","Hard":20,"Soft":10}],"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,
      "MaskedPaths":null,"ReadonlyPaths":[],"Tmpfs":{"/t":"size=64m,noexec"},"Init":true,"Sysctls":{"net.x":"1"},
      "Mounts":[{"Type":"volume","Source":"v2","Target":"/m","VolumeOptions":{"NoCopy":true,"Labels":{"k":"v"},"DriverConfig":{"Name":"local","Options":{"o":"x"}}}},
                {"Type":"tmpfs","Target":"/t2","TmpfsOptions":{"SizeBytes":5,"Mode":448}},
                {"Type":"bind","Source":"/s","Target":"/d","ReadOnly":true,"BindOptions":{"Propagation":"rslave"}}]},
    "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,"Aliases":["w"],"MacAddress":"02:00:00:00:00:01"}}}})");
  ASSERT_TRUE(spec.ok()) << spec.error().text();
  EXPECT_EQ(spec->hostname, "h");
  EXPECT_EQ(spec->user, "1:2");
  EXPECT_TRUE(spec->tty && spec->open_stdin && spec->stdin_once);
  EXPECT_THAT(*spec->cmd, ElementsAre("sh"));
  EXPECT_FALSE(spec->entrypoint.has_value());
  EXPECT_EQ(spec->stop_timeout_s, 3);
  EXPECT_EQ(spec->healthcheck->interval_ns, 1000000000);
  ASSERT_EQ(spec->mounts.size(), 7U);
  EXPECT_EQ(spec->mounts[0].type, engine::MountType::volume);
  EXPECT_TRUE(spec->mounts[0].read_only);
  EXPECT_EQ(spec->mounts[1].propagation, "rshared");
  EXPECT_TRUE(spec->mounts[1].create_source);
  EXPECT_THAT(spec->mounts[1].options, ElementsAre("z"));
  EXPECT_TRUE(spec->mounts[2].no_copy);
  EXPECT_EQ(spec->mounts[2].driver_options.at("o"), "x");
  EXPECT_EQ(spec->mounts[3].tmpfs_mode, 0700U);
  EXPECT_FALSE(spec->mounts[4].create_source);
  EXPECT_THAT(spec->mounts[5].options, ElementsAre("size=64m", "noexec"));
  EXPECT_EQ(spec->mounts[6].target, "/v");
  ASSERT_EQ(spec->ports.size(), 2U);
  EXPECT_EQ(spec->ports[0].host_port, 18081);
  EXPECT_EQ(spec->ports[1].protocol, network::Protocol::udp);
  EXPECT_EQ(spec->network.mode, "bridge");
  ASSERT_EQ(spec->network.endpoints.size(), 1U);
  EXPECT_THAT(spec->network.endpoints[0].aliases, ElementsAre("w"));
  EXPECT_EQ(spec->network.endpoints[0].mac, "02:00:00:00:00:01");
  EXPECT_TRUE(spec->auto_remove && spec->no_new_privileges && spec->read_only_rootfs && *spec->init);
  EXPECT_EQ(spec->resources.nano_cpus, 500000000);
  EXPECT_FALSE(spec->resources.memory_swappiness.has_value());
  EXPECT_EQ(spec->resources.blkio_read_bps[0].rate, 9U);
  EXPECT_EQ(spec->console_size.height, 33);
  EXPECT_FALSE(spec->masked_paths.has_value());
  EXPECT_TRUE(spec->readonly_paths->empty());
  EXPECT_EQ(spec->ulimits[0].soft, 10);
  EXPECT_EQ(spec->devices[0].path_in_container, "/dev/n");
  EXPECT_EQ(spec->log_options.at("max-size"), "1m");
  EXPECT_THAT(spec->client_data, HasSubstr("vol0:/data:ro"));
}

TEST(create_body, null_and_absent_are_unset_everywhere) {
  auto spec = read(R"({"Image":"a","Cmd":null,"Env":null,"Labels":null,"Volumes":null,"ExposedPorts":null,"Healthcheck":null,
                      "HostConfig":null,"NetworkingConfig":null,"StopTimeout":null,"Bogus":[1]})");
  ASSERT_TRUE(spec.ok()) << spec.error().text();
  EXPECT_EQ(spec->network.mode, "bridge");
  EXPECT_TRUE(spec->client_data.empty());
  auto inner = read(R"({"Image":"a","HostConfig":{"PortBindings":{"80/tcp":null},"Binds":null,"Mounts":null,"Ulimits":null,"PidsLimit":null},
                       "NetworkingConfig":{"EndpointsConfig":{"bridge":null}}})");
  ASSERT_TRUE(inner.ok()) << inner.error().text();
  EXPECT_TRUE(inner->ports.empty());
}

TEST(create_body, a_volume_that_a_bind_names_is_the_binds) {
  auto spec = read(R"({"Image":"a","Volumes":{"/data":{},"/other":{}},"HostConfig":{"Binds":["vol:/data"]}})");
  ASSERT_TRUE(spec.ok());
  ASSERT_EQ(spec->mounts.size(), 2U);
  EXPECT_EQ(spec->mounts[0].source, "vol");
  EXPECT_EQ(spec->mounts[1].target, "/other");
}

TEST(create_body, network_modes_are_passed_on) {
  EXPECT_EQ(read(R"({"Image":"a","HostConfig":{"NetworkMode":"host"},"NetworkingConfig":{"EndpointsConfig":{}}})")->network.mode, "host");
  EXPECT_EQ(read(R"({"Image":"a","NetworkDisabled":true})")->network.mode, "none");
}

TEST(create_body, several_networks_are_read_with_their_settings) {
  auto spec = read(R"({"Image":"a","MacAddress":"02:00:00:00:00:09","HostConfig":{"NetworkMode":"front","Links":["db:d"],
    "PortBindings":{"80/sctp":[{"HostPort":"8000-8010"}]}},
    "NetworkingConfig":{"EndpointsConfig":{"back":{"IPAMConfig":{"IPv4Address":"10.1.0.7","IPv6Address":"fd00::7","LinkLocalIPs":["169.254.1.1"]},
      "Aliases":["db"],"Links":["web:w"],"DriverOpts":{"k":"v"},"GwPriority":5,"MacAddress":"02:00:00:00:00:08"},"default":null}}})");
  ASSERT_TRUE(spec.ok()) << spec.error().text();
  ASSERT_EQ(spec->network.endpoints.size(), 3U);
  const auto& front = spec->network.endpoints[0];
  EXPECT_EQ(front.network, "front");
  EXPECT_EQ(front.mac, "02:00:00:00:00:09") << "the container's own address is that of its mode's network";
  const auto& back = spec->network.endpoints[1];
  EXPECT_EQ(back.network, "back");
  EXPECT_EQ(back.ipv4, "10.1.0.7");
  EXPECT_EQ(back.ipv6, "fd00::7");
  EXPECT_THAT(back.link_local, ElementsAre("169.254.1.1"));
  EXPECT_THAT(back.aliases, ElementsAre("db"));
  EXPECT_THAT(back.links, ElementsAre("web:w"));
  EXPECT_EQ(back.driver_options.at("k"), "v");
  EXPECT_EQ(back.gateway_priority, 5);
  EXPECT_EQ(back.mac, "02:00:00:00:00:08");
  EXPECT_EQ(spec->network.endpoints[2].network, "bridge");
  EXPECT_THAT(spec->links, ElementsAre("db:d"));
  ASSERT_EQ(spec->ports.size(), 1U);
  EXPECT_EQ(spec->ports[0].protocol, network::Protocol::sctp);
  EXPECT_EQ(spec->ports[0].host_port, 8000);
  EXPECT_EQ(spec->ports[0].host_port_last, 8010);
}

TEST(create_body, wrong_bodies_are_refused_by_name) {
  struct Case {
    std::string_view body;
    std::string_view text;
    ErrorKind kind = ErrorKind::invalid;
  };
  for (const auto& [body, text, kind] : {
           Case{R"("x")", "want an object"},
           Case{R"({"Image":1})", "Image"},
           Case{R"({"Env":"A=b"})", "Env"},
           Case{R"({"Cmd":[1]})", "Cmd[0]"},
           Case{R"({"Tty":"yes"})", "Tty"},
           Case{R"({"HostConfig":[]})", "HostConfig"},
           Case{R"({"HostConfig":{"Memory":"64m"}})", "HostConfig.Memory"},
           Case{R"({"HostConfig":{"Memory":1.5}})", "HostConfig.Memory"},
           Case{R"({"HostConfig":{"Binds":["/only"]}})", "invalid volume specification: '/only'"},
           Case{R"({"HostConfig":{"Binds":["a:/b:ro:x"]}})", "invalid volume specification"},
           Case{R"({"HostConfig":{"Binds":[":/b"]}})", "invalid volume specification"},
           Case{R"({"HostConfig":{"Mounts":[{"Type":"magic","Target":"/x"}]}})", "mount type unknown"},
           Case{R"({"HostConfig":{"Mounts":[{"Type":"bind","TmpfsOptions":{}}]}})", "TmpfsOptions must not be specified"},
           Case{R"({"HostConfig":{"Mounts":[{"Type":"image","Target":"/x"}]}})", "HostConfig.Mounts[0].Type", ErrorKind::unsupported},
           Case{R"({"HostConfig":{"PortBindings":{"x/tcp":[{}]}}})", "invalid port specification"},
           Case{R"({"HostConfig":{"PortBindings":{"0/tcp":[{}]}}})", "invalid port specification"},
           Case{R"({"HostConfig":{"PortBindings":{"80/dccp":[{}]}}})", "invalid proto: dccp"},
           Case{R"({"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"99999"}]}}})", "invalid port specification"},
           Case{R"({"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"90-80"}]}}})", "invalid port specification"},
           Case{R"({"ExposedPorts":{"http":{}}})", "ExposedPorts"},
           Case{R"({"HostConfig":{"RestartPolicy":{"Name":"sometimes"}}})", "unknown policy 'sometimes'"},
           Case{R"({"HostConfig":{"SecurityOpt":["bogus=1"]}})", "invalid --security-opt"},
           Case{R"({"HostConfig":{"SecurityOpt":["no-new-privileges=maybe"]}})", "invalid --security-opt"},
           Case{R"({"HostConfig":{"SecurityOpt":["label=type:x"]}})", "SELinux", ErrorKind::unsupported},
           Case{R"({"HostConfig":{"Links":"a:b"}})", "HostConfig.Links"},
           Case{R"({"HostConfig":{"DeviceRequests":[{"Count":-1,"DeviceIDs":["0"]}]}})", "cannot set both Count and DeviceIDs", ErrorKind::invalid},
           Case{R"({"HostConfig":{"StorageOpt":{"size":"huge"}}})", "HostConfig.StorageOpt"},
           Case{R"({"HostConfig":{"StorageOpt":{"inodes":"1"}}})", "unknown option inodes"},
           Case{R"({"HostConfig":{"KernelMemory":5}})", "HostConfig.KernelMemory", ErrorKind::unsupported},
           Case{R"({"HostConfig":{"CpuCount":1}})", "HostConfig.CpuCount", ErrorKind::unsupported},
           Case{R"({"HostConfig":{"VolumeDriver":"nfs"}})", "HostConfig.VolumeDriver", ErrorKind::unsupported},
           Case{R"({"HostConfig":{"Isolation":"hyperv"}})", "isolation"},
           Case{R"({"HostConfig":{"Runtime":"kata"}})", "unknown or invalid runtime name: kata"},
           Case{R"({"HostConfig":{"ConsoleSize":[1,2,3]}})", "ConsoleSize"},
           Case{R"({"Healthcheck":{"Test":["CMD","x"],"Interval":5}})", "cannot be less than 1ms"},
           Case{R"({"NetworkingConfig":{"EndpointsConfig":{"mine":[]}}})", "EndpointsConfig.mine"},
           Case{R"({"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv4Address":"1.2.3"}}}}})", "IPv4Address"},
           Case{R"({"NetworkingConfig":{"EndpointsConfig":{"bridge":{"IPAMConfig":{"IPv6Address":"1.2.3.4"}}}}})", "IPv6Address"},
           Case{R"({"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"nonsense"}}}})", "MacAddress"},
           Case{R"({"Volumes":{"/a:/b":{}}})", "Volumes"},
       }) {
    auto spec = read(body);
    ASSERT_FALSE(spec.ok()) << body;
    EXPECT_THAT(spec.error().text(), HasSubstr(std::string(text))) << body;
    EXPECT_EQ(spec.error().kind(), kind) << body;
  }
}

TEST(create_body, security_options_are_read_in_both_spellings) {
  engine::ContainerSpec spec;
  for (auto option : {"no-new-privileges:true", "seccomp=unconfined", "apparmor:unconfined", "label=disable", "systempaths=unconfined"})
    ASSERT_TRUE(apply_security_option(option, spec).ok()) << option;
  EXPECT_TRUE(spec.no_new_privileges);
  EXPECT_EQ(spec.seccomp, "unconfined");
  EXPECT_EQ(spec.apparmor_profile, "unconfined");
  EXPECT_TRUE(spec.masked_paths->empty());
  ASSERT_TRUE(apply_security_option(R"(seccomp={"defaultAction":"SCMP_ACT_ALLOW"})", spec).ok());
  EXPECT_EQ(spec.seccomp, R"({"defaultAction":"SCMP_ACT_ALLOW"})");
  ASSERT_TRUE(apply_security_option("seccomp=builtin", spec).ok());
  EXPECT_EQ(spec.seccomp, "");
}

TEST(detach_keys, are_bytes) {
  EXPECT_EQ(*parse_detach_keys(""), "");
  EXPECT_EQ(*parse_detach_keys("ctrl-p,ctrl-q"), "\x10\x11");
  EXPECT_EQ(*parse_detach_keys("q"), "q");
  EXPECT_EQ(*parse_detach_keys("ctrl-x,y"), "\x18y");
  EXPECT_EQ(*parse_detach_keys("ctrl-@"), std::string(1, '\0'));
  EXPECT_EQ(*parse_detach_keys("ctrl-_"), "\x1f");
  for (auto bad : {"ctrl-", "ctrl-1", "qq", "a,,b", "CTRL-a"}) EXPECT_FALSE(parse_detach_keys(bad).ok()) << bad;
}

TEST(filters, both_encodings_are_read) {
  auto go = Filters::parse(R"({"label":{"a=b":true,"c":true},"name":{"x":true}})", {"label", "name"});
  auto python = Filters::parse(R"({"label":["a=b","c"],"name":["x"]})", {"label", "name"});
  ASSERT_TRUE(go.ok() && python.ok());
  for (const auto& filters : {*go, *python}) {
    EXPECT_THAT(filters.get("label"), ElementsAre("a=b", "c"));
    EXPECT_TRUE(filters.labels("label", {{"a", "b"}, {"c", ""}}));
    EXPECT_FALSE(filters.labels("label", {{"a", "b"}}));
    EXPECT_TRUE(filters.part("name", "axb"));
    EXPECT_FALSE(filters.exact("name", "axb"));
  }
}

TEST(filters, empty_ones_let_everything_pass_and_broken_ones_are_refused) {
  for (auto text : {"", " ", "{}", "null", R"({"name":[]})", R"({"name":null})"}) {
    auto filters = Filters::parse(text, {"name"});
    ASSERT_TRUE(filters.ok()) << text;
    EXPECT_TRUE(filters->empty()) << text;
    EXPECT_TRUE(filters->exact("name", "x"));
  }
  for (auto text : {"x", "[]", "7", R"({"name":"x"})", R"({"name":[1]})", R"({"other":["x"]})"}) EXPECT_FALSE(Filters::parse(text, {"name"}).ok()) << text;
  EXPECT_THAT(Filters::parse(R"({"other":["x"]})", {"name"}).error().text(), HasSubstr("invalid filter 'other'"));
}

TEST(filters, booleans_are_words) {
  EXPECT_EQ(*Filters::parse(R"({"dangling":["true"]})", {"dangling"})->boolean("dangling"), true);
  EXPECT_EQ(*Filters::parse(R"({"dangling":{"false":true}})", {"dangling"})->boolean("dangling"), false);
  EXPECT_EQ(*Filters::parse("", {"dangling"})->boolean("dangling"), std::nullopt);
  EXPECT_FALSE(Filters::parse(R"({"dangling":["maybe"]})", {"dangling"})->boolean("dangling").ok());
}

TEST(query, numbers_are_whole) {
  EXPECT_EQ(**Query("t=5").integer("t"), 5);
  EXPECT_EQ(**Query("t=-1").integer("t"), -1);
  EXPECT_FALSE(Query("t=").integer("t")->has_value());
  EXPECT_FALSE(Query("t=5s").integer("t").ok());
  EXPECT_THAT(Query("names=a&names=b").all("names"), ElementsAre("a", "b"));
}

}  // namespace
}  // namespace caisson::api
