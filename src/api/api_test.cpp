// The API as clients see it, over an engine that only remembers what it was asked.
#include "api/api.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/fake_builder.hpp"
#include "api/fake_engine.hpp"
#include "api/router.hpp"
#include "base/json.hpp"
#include "linux/file.hpp"

namespace caisson::api {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

class Api : public testing::Test {
 protected:
  FakeEngine engine;
  FakeBuilder builder;
  wire::Handler handler = create_api(engine, builder, ApiOptions{});

  FakeExchange call(std::string method, std::string_view target, std::string body = "", wire::Headers headers = {}) {
    FakeExchange exchange(std::move(method), target, std::move(body), std::move(headers));
    handler(exchange);
    return exchange;
  }
  static json::object parsed(const FakeExchange& exchange) {
    auto document = parse_json(exchange.answer, "answer");
    EXPECT_TRUE(document.ok()) << exchange.answer;
    return document.ok() && document->is_object() ? document->get_object() : json::object();
  }
  static std::string message(const FakeExchange& exchange) {
    EXPECT_TRUE(exchange.answer.ends_with("}\n")) << exchange.answer;
    return std::string(parsed(exchange)["message"].as_string());
  }
};

TEST_F(Api, ping_tells_everything_a_client_decides_on) {
  for (auto target : {"/_ping", "/v1.41/_ping"}) {
    auto get = call("GET", target);
    EXPECT_EQ(get.status, 200);
    EXPECT_EQ(get.answer, "OK");
    EXPECT_EQ(get.answer_header("Api-Version"), "1.45");
    EXPECT_EQ(get.answer_header("Ostype"), "linux");
    EXPECT_EQ(get.answer_header("Docker-Experimental"), "false");
    EXPECT_EQ(get.answer_header("Builder-Version"), "1");
    EXPECT_EQ(get.answer_header("Content-Type"), "text/plain; charset=utf-8");
  }
  EXPECT_EQ(call("HEAD", "/_ping").answer, "");
}

TEST_F(Api, every_answer_carries_the_servers_version_not_the_requested_one) {
  auto answer = call("GET", "/v1.30/containers/json");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.answer_header("Api-Version"), "1.45");
  EXPECT_THAT(answer.answer_header("Server"), HasSubstr("Caisson/"));
}

TEST_F(Api, versions_out_of_range_are_refused_in_dockers_words) {
  auto old = call("GET", "/v1.23/info");
  EXPECT_EQ(old.status, 400);
  EXPECT_THAT(message(old), HasSubstr("client version 1.23 is too old. Minimum supported API version is 1.24"));
  auto fresh = call("GET", "/v1.99/info");
  EXPECT_EQ(fresh.status, 400);
  EXPECT_THAT(message(fresh), HasSubstr("client version 1.99 is too new. Maximum supported API version is 1.45"));
}

TEST_F(Api, unknown_routes_and_wrong_methods_are_the_same_404) {
  for (auto [method, target] : {std::pair{"GET", "/nonsense"}, {"PATCH", "/containers/json"}, {"GET", "/v1.45"}, {"GET", "/"}, {"POST", "/session"},
                                {"POST", "/grpc"}, {"GET", "/v1.x/info"}, {"GET", "/containers//json"}}) {
    auto answer = call(method, target);
    if (answer.status == 301) continue;
    EXPECT_EQ(answer.status, 404) << target;
    EXPECT_EQ(message(answer), "page not found") << target;
    EXPECT_EQ(answer.answer_header("Content-Type"), "application/json");
  }
}

TEST_F(Api, doubled_slashes_are_redirected) {
  auto answer = call("GET", "//containers///json?all=1");
  EXPECT_EQ(answer.status, 301);
  EXPECT_EQ(answer.answer_header("Location"), "/containers/json?all=1");
}

TEST_F(Api, image_names_hold_raw_slashes) {
  EXPECT_EQ(call("GET", "/v1.45/images/localhost:5000/t/al:1/json").status, 200);
  EXPECT_THAT(engine.calls, Contains("inspect_image localhost:5000/t/al:1"));
  EXPECT_EQ(call("GET", "/images/localhost%3A5000%2Ft%2Fal%3A1/json").status, 200);
  auto probed = call("GET", "/containers/localhost:5000/t/al:1/json");  // docker inspect tries all kinds in turn
  EXPECT_EQ(probed.status, 404);
  EXPECT_THAT(message(probed), HasSubstr("No such container"));
  EXPECT_EQ(call("POST", "/images/alpine/tag?repo=localhost:5000/t/al&tag=1").status, 201);
  EXPECT_THAT(engine.calls, Contains("tag alpine localhost:5000/t/al:1"));
}

TEST_F(Api, error_kinds_become_statuses) {
  for (auto [kind, status] : {std::pair{ErrorKind::invalid, 400}, {ErrorKind::not_found, 404}, {ErrorKind::conflict, 409}, {ErrorKind::denied, 403},
                              {ErrorKind::unsupported, 501}, {ErrorKind::unavailable, 503}, {ErrorKind::timeout, 504}, {ErrorKind::corrupt, 500},
                              {ErrorKind::io, 500}, {ErrorKind::internal, 500}}) {
    engine.next_status = Error(kind, "kill web: because").with_hint("do this");
    auto answer = call("POST", "/containers/web/kill");
    EXPECT_EQ(answer.status, status);
    EXPECT_EQ(message(answer), "kill web: because");
    EXPECT_EQ(parsed(answer)["hint"].as_string(), "do this");
  }
}

TEST_F(Api, tcp_clients_have_no_rights_and_must_name_an_address_as_host) {
  FakeExchange remote("GET", "/info", "", {{"Host", "127.0.0.1:2375"}});
  remote.who.is_unix = false;
  handler(remote);
  EXPECT_EQ(remote.status, 403);
  FakeExchange rebound("GET", "/_ping", "", {{"Host", "evil.example:2375"}});
  rebound.who.is_unix = false;
  handler(rebound);
  EXPECT_EQ(rebound.status, 403);
  FakeExchange ping("GET", "/_ping", "", {{"Host", "localhost:2375"}});
  ping.who.is_unix = false;
  handler(ping);
  EXPECT_EQ(ping.status, 200);
}

TEST_F(Api, start_and_stop_of_what_is_so_already_are_304) {
  EXPECT_EQ(call("POST", "/containers/web/start").status, 204);
  EXPECT_EQ(call("POST", "/containers/web/stop?t=3&signal=INT").status, 204);
  EXPECT_EQ(engine.stopped_with.timeout_s, 3);
  EXPECT_EQ(engine.stopped_with.signal, "INT");
  engine.next_change = engine::Engine::Changed::already;
  EXPECT_EQ(call("POST", "/containers/web/start").status, 304);
  EXPECT_EQ(call("POST", "/containers/web/stop").status, 304);
  EXPECT_EQ(engine.stopped_with.timeout_s, std::nullopt);
  EXPECT_EQ(call("POST", "/containers/web/stop?t=x").status, 400);
}

TEST_F(Api, a_program_that_cannot_run_is_a_400_and_a_missing_container_a_404) {
  engine.next_status = Error(ErrorKind::not_found, "exec: \"x\": executable file not found in $PATH");
  EXPECT_EQ(call("POST", "/containers/web/start").status, 400);
  EXPECT_EQ(call("POST", "/containers/nope/start").status, 404);
}

TEST_F(Api, unpausing_what_is_not_paused_is_dockers_500) {
  engine.next_status = Error(ErrorKind::conflict, "Container web is not paused");
  EXPECT_EQ(call("POST", "/containers/web/unpause").status, 500);
  EXPECT_EQ(call("POST", "/containers/web/pause").status, 409);
}

TEST_F(Api, booleans_follow_dockers_rule) {
  call("DELETE", "/containers/web?force=1&v=True");
  call("DELETE", "/containers/web?force=False&v=0&link=");
  call("DELETE", "/containers/web?force=none&v=yes");
  EXPECT_THAT(engine.calls, ElementsAre("remove force volumes web", "remove web", "remove volumes web"));
}

TEST_F(Api, a_link_is_removed_by_its_path_and_a_plain_name_is_dockers_500) {
  EXPECT_EQ(call("DELETE", "/containers/web/db?link=1").status, 204);
  EXPECT_THAT(engine.calls, ElementsAre("remove link web/db"));
  engine.next_status = Error(ErrorKind::conflict, "Conflict, cannot remove the default link name of the container");
  EXPECT_EQ(call("DELETE", "/containers/web?link=1").status, 500);
}

TEST_F(Api, create_needs_json) {
  wire::Headers plain{{"Content-Type", "text/plain"}};
  wire::Headers right{{"Content-Type", "application/json; charset=utf-8"}};
  EXPECT_EQ(call("POST", "/containers/create", "{}", plain).status, 400);
  EXPECT_EQ(call("POST", "/containers/create", "", right).status, 400);
  EXPECT_EQ(call("POST", "/containers/create", "{", right).status, 400);
  EXPECT_EQ(call("POST", "/containers/create", "[]", right).status, 400);
  EXPECT_TRUE(engine.calls.empty());
  auto made = call("POST", "/containers/create?name=/web&platform=linux/amd64", R"({"Image":"alpine","Cmd":"sh"})", right);
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(parsed(made)["Id"].as_string(), engine.container.id);
  EXPECT_TRUE(parsed(made)["Warnings"].is_array());
  EXPECT_EQ(engine.created.name, "web");
  EXPECT_EQ(engine.created.platform, "linux/amd64");
  EXPECT_THAT(*engine.created.cmd, ElementsAre("sh"));
}

TEST_F(Api, wait_answers_its_head_before_it_waits) {
  engine.wait_result.exit_code = 4;
  auto answer = call("POST", "/containers/web/wait?condition=next-exit");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.answer, "{\"StatusCode\":4}\n");
  EXPECT_THAT(engine.calls, ElementsAre("wait 1 web"));
  EXPECT_EQ(call("POST", "/containers/web/wait?condition=bad").status, 400);
  EXPECT_EQ(call("POST", "/containers/nope/wait").status, 404);
  engine.wait_result.error = "cannot start";
  EXPECT_THAT(call("POST", "/containers/web/wait?condition=removed").answer, HasSubstr(R"("Error":{"Message":"cannot start"})"));
}

TEST_F(Api, logs_are_framed_and_name_their_type_by_version) {
  engine.log_records = {{engine::LogStream::standard_output, 1795188452054385335, "out\n"}, {engine::LogStream::standard_error, 1795188452054385335, "err\n"}};
  auto answer = call("GET", "/v1.45/containers/web/logs?stdout=1&stderr=1&follow=1&tail=7");
  EXPECT_EQ(answer.answer, std::string("\1\0\0\0\0\0\0\4out\n\2\0\0\0\0\0\0\4err\n", 24));
  EXPECT_EQ(answer.answer_header("Content-Type"), "application/vnd.docker.multiplexed-stream");
  EXPECT_TRUE(answer.ended);
  EXPECT_THAT(engine.calls, Contains("logs follow tail 7 " + engine.container.id));
  EXPECT_EQ(call("GET", "/v1.41/containers/web/logs?stdout=1").answer_header("Content-Type"), "application/vnd.docker.raw-stream");
  engine.container.spec.tty = true;
  auto raw = call("GET", "/containers/web/logs?stdout=1&timestamps=1&tail=all");
  EXPECT_EQ(raw.answer, "2026-11-20T15:27:32.054385335Z out\n2026-11-20T15:27:32.054385335Z err\n");
  EXPECT_EQ(call("GET", "/containers/web/logs").status, 400) << "no stream was chosen";
}

TEST_F(Api, attach_hands_the_clients_socket_to_the_engine) {
  wire::Headers upgrade{{"Connection", "Upgrade"}, {"Upgrade", "tcp"}};
  auto answer = call("POST", "/v1.45/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x,y", "typed", upgrade);
  EXPECT_TRUE(answer.answer.starts_with("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n")) << answer.answer;
  EXPECT_THAT(answer.answer, HasSubstr("Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"));
  EXPECT_THAT(engine.calls, Contains("attached stdin stdout pending:typed keys:2"));
  EXPECT_EQ(*linux::read_all(answer.client.get()), "hello");
  auto plain = call("POST", "/containers/web/attach?stream=1&stdout=1");
  EXPECT_EQ(plain.answer, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n");
}

TEST_F(Api, attach_errors_come_before_the_hijack_as_plain_text) {
  auto missing = call("POST", "/containers/nope/attach?stream=1");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.answer, "No such container: nope");
  EXPECT_EQ(missing.answer_header("Content-Type"), "application/vnd.docker.raw-stream");
  auto keys = call("POST", "/containers/web/attach?stream=1&detachKeys=ctrl-!!");
  EXPECT_EQ(keys.status, 400);
  EXPECT_THAT(keys.answer, HasSubstr("Invalid escape keys (ctrl-!!) provided"));
  engine.next_status = Error(ErrorKind::conflict, "container web is paused");
  EXPECT_EQ(call("POST", "/containers/web/attach?stream=1").status, 409);
}

TEST_F(Api, exec_starts_attached_or_detached) {
  auto made = call("POST", "/containers/web/exec", R"({"Cmd":["ls"],"Tty":true,"AttachStdout":true,"DetachKeys":"q","ConsoleSize":[33,99]})");
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(engine.exec.spec.console_size.width, 99);
  EXPECT_EQ(call("POST", "/containers/web/exec", R"({"Cmd":[]})").status, 400);
  const std::string path = "/exec/" + engine.exec.id + "/start";
  auto attached = call("POST", path, R"({"Detach":false,"Tty":true})");
  EXPECT_EQ(*linux::read_all(attached.client.get()), "hello");
  auto detached = call("POST", path, R"({"Detach":true})");
  EXPECT_EQ(detached.status, 200);
  EXPECT_EQ(detached.answer, "");
  EXPECT_EQ(call("POST", "/exec/nope/start", "{}").status, 404);
  EXPECT_EQ(call("POST", "/exec/" + engine.exec.id + "/resize?h=33&w=99").status, 200);
  EXPECT_EQ(call("POST", "/exec/" + engine.exec.id + "/resize?h=33").status, 400);
}

TEST_F(Api, an_exec_that_fails_after_the_hijack_says_so_in_the_stream) {
  engine.next_status = Error(ErrorKind::not_found, "exec: \"x\": executable file not found in $PATH");
  auto answer = call("POST", "/exec/" + engine.exec.id + "/start", R"({"Detach":false})");
  std::string stream = *linux::read_all(answer.client.get());
  EXPECT_EQ(stream.substr(0, 4), std::string("\1\0\0\0", 4));
  EXPECT_THAT(stream, HasSubstr("executable file not found"));
}

TEST_F(Api, exec_inspect_has_no_exit_code_while_it_runs) {
  engine.exec.running = true;
  auto running = parsed(call("GET", "/exec/" + engine.exec.id + "/json"));
  EXPECT_TRUE(running["ExitCode"].is_null());
  EXPECT_EQ(running["ProcessConfig"].as_object()["entrypoint"].as_string(), "ls");
  engine.exec.running = false;
  engine.exec.exit_code = 3;
  EXPECT_EQ(parsed(call("GET", "/exec/" + engine.exec.id + "/json"))["ExitCode"].as_int64(), 3);
}

TEST_F(Api, load_reads_the_body_and_reports_progress) {
  auto answer = call("POST", "/images/load", std::string(300'000, 't'));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(engine.loaded.size(), 300'000U);
  EXPECT_THAT(answer.answer, HasSubstr(R"({"status":"Loading layer","id":"abc")"));
  EXPECT_THAT(answer.answer, HasSubstr(R"({"stream":"Loaded image: alpine:latest\n"})"));
  EXPECT_EQ(call("POST", "/images/load?quiet=1", "x").answer.find("Loading layer"), std::string::npos);
}

TEST_F(Api, a_load_that_fails_before_its_first_line_is_an_ordinary_error) {
  engine.stream_status = Error(ErrorKind::invalid, "load: not a tar");
  auto answer = call("POST", "/images/load", std::string(300'000, 't'));
  EXPECT_EQ(answer.status, 400);
  EXPECT_EQ(message(answer), "load: not a tar");
}

TEST_F(Api, an_import_that_fails_later_says_so_inside_the_200) {
  engine.stream_status = Error(ErrorKind::unavailable, "import: disk full");
  auto answer = call("POST", "/images/create?fromSrc=-&repo=imp:1", "tar", {{"Content-Type", "text/plain"}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.answer, HasSubstr(R"({"errorDetail":{"message":"import: disk full"},"error":"import: disk full"})"));
  engine.stream_status = {};
  EXPECT_THAT(call("POST", "/images/create?fromSrc=-", "tar").answer, HasSubstr(engine.image.id.text()));
}

TEST_F(Api, an_image_comes_from_somewhere) {
  EXPECT_EQ(call("POST", "/images/create").status, 400);
  EXPECT_EQ(call("POST", "/images/create?fromSrc=http://x/y.tar").status, 501);
}

TEST_F(Api, save_streams_and_refuses_what_is_missing) {
  auto answer = call("GET", "/images/get?names=alpine&names=localhost:5000/t/al:1");
  EXPECT_EQ(answer.answer, "tar of alpine,localhost:5000/t/al:1");
  EXPECT_EQ(answer.answer_header("Content-Type"), "application/x-tar");
  EXPECT_EQ(call("GET", "/images/alpine/get").answer, "tar of alpine");
  EXPECT_EQ(call("GET", "/images/get?names=nope").status, 404);
  EXPECT_EQ(call("GET", "/images/get").status, 400);
  engine.stream_status = Error(ErrorKind::corrupt, "layer is missing");
  EXPECT_EQ(call("GET", "/images/alpine/get").status, 500);
}

TEST_F(Api, events_are_filtered_and_shaped) {
  engine.event_list = {
      {"container", "start", "c1", {{"image", "alpine"}, {"name", "web"}, {"l", "1"}}, 1795188452054385335},
      {"container", "exec_start: sh -c x", "c1", {{"image", "alpine"}, {"name", "web"}}, 1795188453054385335},
      {"volume", "create", "v1", {{"driver", "local"}}, 1795188454054385335},
  };
  auto all = call("GET", "/events?since=1&until=2");
  EXPECT_EQ(std::count(all.answer.begin(), all.answer.end(), '\n'), 3);
  EXPECT_TRUE(all.answer.starts_with(R"({"status":"start","id":"c1","from":"alpine","Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{)")) << all.answer;
  EXPECT_THAT(all.answer, HasSubstr(R"("scope":"local","time":1795188452,"timeNano":1795188452054385335})"));
  auto count = [&](std::string_view filters) {
    auto answer = call("GET", "/events?until=2&filters=" + wire::percent_encode(filters));
    EXPECT_EQ(answer.status, 200) << answer.answer;
    return std::count(answer.answer.begin(), answer.answer.end(), '\n');
  };
  EXPECT_EQ(count(R"({"type":{"container":true}})"), 2);
  EXPECT_EQ(count(R"({"type":["volume"]})"), 1);
  EXPECT_EQ(count(R"({"event":["exec_start"]})"), 1);
  EXPECT_EQ(count(R"({"container":["web"]})"), 2);
  EXPECT_EQ(count(R"({"container":["other"]})"), 0);
  EXPECT_EQ(count(R"({"image":["alpine"],"label":["l=1"]})"), 1);
  EXPECT_EQ(count(R"({"type":["container"],"event":["start"]})"), 1);
  EXPECT_EQ(call("GET", "/events?filters=%7B%22bogus%22%3A%5B%22x%22%5D%7D").status, 400);
  EXPECT_EQ(call("GET", "/events?since=20&until=10").status, 400);
}

TEST_F(Api, lists_are_limited_and_filtered) {
  for (int i = 0; i < 3; ++i) {
    engine::ContainerSummary summary;
    summary.id = std::string(64, static_cast<char>('a' + i));
    summary.name = concat("web", i);
    summary.image = i == 0 ? "alpine" : "debian:12";
    summary.state = i == 2 ? engine::State::exited : engine::State::running;
    summary.exit_code = i;
    summary.created = 100 - i;
    summary.labels = {{"n", concat(i)}};
    summary.args = {"sh", "-c", "echo x"};
    engine.summaries.push_back(summary);
  }
  auto names = [&](const std::string& query) {
    auto answer = call("GET", "/containers/json?" + query);
    EXPECT_EQ(answer.status, 200) << answer.answer;
    std::vector<std::string> found;
    auto document = parse_json(answer.answer, "list");
    for (const auto& entry : document->as_array()) found.emplace_back(entry.as_object().at("Names").as_array()[0].as_string());
    return found;
  };
  auto filter = [&](std::string_view text) { return names("all=1&filters=" + wire::percent_encode(text)); };
  EXPECT_THAT(names("limit=-1"), ElementsAre("/web0", "/web1", "/web2"));
  EXPECT_THAT(names("limit=2"), ElementsAre("/web0", "/web1"));
  EXPECT_THAT(engine.calls, ElementsAre("list", "list all"));
  EXPECT_THAT(filter(R"({"name":["web1"]})"), ElementsAre("/web1"));
  EXPECT_THAT(filter(R"({"name":{"^/web2$":true}})"), ElementsAre("/web2"));
  EXPECT_THAT(filter(R"({"label":["n=1"]})"), ElementsAre("/web1"));
  EXPECT_THAT(filter(R"({"ancestor":["alpine:latest"]})"), ElementsAre("/web0"));
  EXPECT_THAT(filter(R"({"status":["exited"]})"), ElementsAre("/web2"));
  EXPECT_THAT(filter(R"({"exited":["2"]})"), ElementsAre("/web2"));
  EXPECT_THAT(filter(R"({"before":["web0"]})"), ElementsAre("/web1", "/web2"));
  EXPECT_THAT(filter(R"({"since":["web1"]})"), ElementsAre("/web0"));
  EXPECT_THAT(filter(R"({"id":["bbb"]})"), ElementsAre("/web1"));
  EXPECT_EQ(call("GET", "/containers/json?filters=" + wire::percent_encode(R"({"status":["odd"]})")).status, 400);
  EXPECT_EQ(call("GET", "/containers/json?filters=nonsense").status, 400);
  EXPECT_EQ(call("GET", "/containers/json?filters=" + wire::percent_encode(R"({"before":["nope"]})")).status, 404);
}

TEST_F(Api, inspect_gives_back_what_was_asked_and_fills_in_the_rest) {
  engine.container.spec.client_data = R"({"Binds":["/a:/b:ro"],"Dns":null,"Init":true,"Bogus":1,"Memory":5})";
  engine.container.spec.resources.memory_bytes = 7;
  engine.container.spec.exposed_ports = {"80/tcp", "81/tcp"};
  engine.container.ports = {{network::Protocol::tcp, 80, "", 8080}};
  auto out = parsed(call("GET", "/containers/web/json"));
  EXPECT_EQ(out["Name"].as_string(), "/web");
  EXPECT_EQ(out["Path"].as_string(), "sh");
  auto host = out["HostConfig"].as_object();
  EXPECT_EQ(to_text(host["Binds"]), R"(["/a:/b:ro"])");
  EXPECT_TRUE(host["Dns"].is_array()) << "null keeps the default";
  EXPECT_TRUE(host["Init"].as_bool());
  EXPECT_FALSE(host.contains("Bogus"));
  EXPECT_EQ(host["Memory"].as_int64(), 7) << "the engine knows better after an update";
  EXPECT_EQ(host["ShmSize"].as_int64(), 67108864);
  auto ports = out["NetworkSettings"].as_object()["Ports"].as_object();
  EXPECT_EQ(to_text(ports["80/tcp"]), R"([{"HostIp":"0.0.0.0","HostPort":"8080"}])");
  EXPECT_TRUE(ports["81/tcp"].is_null());
  EXPECT_EQ(out["State"].as_object()["StartedAt"].as_string(), "0001-01-01T00:00:00Z");
}

TEST_F(Api, volumes_are_listed_in_an_object_and_pruned_by_version) {
  engine::VolumeInfo named;
  named.name = "data";
  engine::VolumeInfo anonymous;
  anonymous.name = std::string(64, 'f');
  anonymous.anonymous = true;
  engine.volumes = {named, anonymous};
  auto list = parsed(call("GET", "/volumes"));
  EXPECT_EQ(list["Volumes"].as_array().size(), 2U);
  EXPECT_TRUE(list["Warnings"].is_null());
  EXPECT_EQ(parsed(call("POST", "/v1.45/volumes/prune"))["VolumesDeleted"].as_array().size(), 1U);
  EXPECT_EQ(parsed(call("POST", "/v1.41/volumes/prune"))["VolumesDeleted"].as_array().size(), 2U);
  EXPECT_EQ(parsed(call("POST", "/v1.45/volumes/prune?filters=" + wire::percent_encode(R"({"all":["true"]})")))["VolumesDeleted"].as_array().size(), 2U);
  EXPECT_EQ(call("POST", "/volumes/create", R"({"Name":"v1","Labels":null})").status, 201);
  auto fresh = parsed(call("POST", "/volumes/create", "{}"));
  EXPECT_TRUE(fresh["Labels"].as_object().contains("com.docker.volume.anonymous"));
  EXPECT_EQ(call("DELETE", "/volumes/v1?force=1").status, 204);
  EXPECT_EQ(call("GET", "/volumes/none").status, 404);
}

TEST_F(Api, networks_are_made_connected_and_removed_with_dockers_statuses) {
  auto made = call("POST", "/networks/create", R"({"Name":"n1","Driver":"bridge","Internal":true,"EnableIPv6":true,"Options":{"o":"1"},"Labels":{"l":"2"},
    "IPAM":{"Driver":"default","Options":{},"Config":[{"Subnet":"10.77.0.0/24","IPRange":"10.77.0.128/25","Gateway":"10.77.0.1","AuxiliaryAddresses":{"r":"10.77.0.9"}}]}})");
  EXPECT_EQ(made.status, 201);
  EXPECT_EQ(parsed(made)["Id"].as_string(), std::string(64, 'n'));
  EXPECT_TRUE(engine.last_network.internal && engine.last_network.ipv6);
  ASSERT_EQ(engine.last_network.subnets.size(), 1U);
  EXPECT_EQ(engine.last_network.subnets[0], (network::Subnet{"10.77.0.0/24", "10.77.0.1", "10.77.0.128/25", {{"r", "10.77.0.9"}}}));
  auto connected = call("POST", "/networks/n1/connect", R"({"Container":"web","EndpointConfig":{"Aliases":["w"],"IPAMConfig":{"IPv4Address":"10.77.0.200"}}})");
  EXPECT_EQ(connected.status, 200);
  EXPECT_EQ(connected.answer, "");
  EXPECT_EQ(engine.last_endpoint.ipv4, "10.77.0.200");
  EXPECT_EQ(call("POST", "/networks/n1/disconnect", R"({"Container":"web","Force":true})").status, 200);
  EXPECT_EQ(call("DELETE", "/networks/n1").status, 204);
  EXPECT_THAT(engine.calls, ElementsAre("create_network n1 bridge", "connect_network n1 web", "disconnect_network n1 web force", "remove_network n1"));
  engine.next_status = Error(ErrorKind::denied, "network n1 id x has active endpoints");
  EXPECT_EQ(call("DELETE", "/networks/n1").status, 403);
  engine.next_status = Error(ErrorKind::conflict, "network with name n1 already exists");
  EXPECT_EQ(call("POST", "/networks/create", R"({"Name":"n1"})").status, 409);
  EXPECT_EQ(call("POST", "/networks/create", R"({"Name":5})").status, 400);
  EXPECT_EQ(call("POST", "/networks/create", "").status, 400);
  EXPECT_EQ(call("POST", "/networks/create", R"({"Name":"o","Scope":"swarm"})").status, 403);
  EXPECT_EQ(to_text(parsed(call("POST", "/networks/prune"))["NetworksDeleted"]), R"(["old"])");
  EXPECT_TRUE(parsed(call("POST", "/networks/prune?filters=" + wire::percent_encode(R"({"label":["keep=yes"]})")))["NetworksDeleted"].is_null());
  EXPECT_TRUE(parsed(call("POST", "/networks/prune?filters=" + wire::percent_encode(R"({"label!":["keep=no"]})")))["NetworksDeleted"].is_null());
}

TEST_F(Api, inspect_shows_every_network_and_its_endpoint) {
  engine.container.spec.network.mode = "front";
  engine.container.spec.network.endpoints = {{.network = "front", .network_id = "f", .ipv4 = "10.1.0.7", .aliases = {"w"}}, {.network = "back"}};
  auto networks = [&] { return parsed(call("GET", "/containers/web/json"))["NetworkSettings"].as_object()["Networks"].as_object(); };
  auto stopped = networks()["front"].as_object();
  EXPECT_EQ(to_text(stopped["IPAMConfig"]), R"({"IPv4Address":"10.1.0.7"})");
  EXPECT_EQ(stopped["IPAddress"].as_string(), "");
  EXPECT_EQ(stopped["NetworkID"].as_string(), "f");
  network::Endpoint front;
  front.network_name = "front";
  front.network_id = "f";
  front.ipv4 = "10.1.0.7";
  front.prefix_length = 16;
  front.ipv6 = "fd00::7";
  front.ipv6_prefix_length = 64;
  engine.container.endpoints = {front};
  auto running = networks();
  EXPECT_EQ(running["front"].as_object()["IPAddress"].as_string(), "10.1.0.7");
  EXPECT_EQ(running["front"].as_object()["GlobalIPv6Address"].as_string(), "fd00::7");
  EXPECT_EQ(running["front"].as_object()["GlobalIPv6PrefixLen"].as_int64(), 64);
  EXPECT_EQ(running["front"].as_object()["Aliases"].as_array().front().as_string(), "w");
  EXPECT_EQ(running["front"].as_object()["Aliases"].as_array().size(), 2U) << "and the short id";
  EXPECT_EQ(running["back"].as_object()["IPAddress"].as_string(), "");
}

TEST_F(Api, what_is_not_there_yet_says_so_in_json) {
  for (auto [method, target, status] : {std::tuple{"POST", "/swarm/join", 503},
                                        {"GET", "/swarm", 503}, {"POST", "/swarm/init", 503}, {"GET", "/nodes", 503}, {"GET", "/secrets/x", 503},
                                        {"GET", "/plugins", 200}, {"POST", "/networks/prune", 200}, {"GET", "/networks/nope", 404}}) {
    auto answer = call(method, target);
    EXPECT_EQ(answer.status, status) << target;
    EXPECT_TRUE(parse_json(answer.answer, "x").ok()) << answer.answer;
  }
  EXPECT_THAT(message(call("GET", "/services")), HasSubstr("This node is not a swarm manager"));
}

TEST_F(Api, stats_of_a_stopped_container_are_one_object_of_zeros) {
  auto answer = call("GET", "/containers/web/stats?stream=0&one-shot=1");
  EXPECT_EQ(answer.answer_header("Content-Type"), "application/json");
  auto out = parsed(answer);
  EXPECT_EQ(out["name"].as_string(), "/web");
  EXPECT_EQ(out["cpu_stats"].as_object()["cpu_usage"].as_object()["total_usage"].to_number<int>(), 0);
  EXPECT_EQ(call("GET", "/containers/web/stats?stream=1&one-shot=1").status, 400);
}

TEST_F(Api, small_verbs_reach_the_engine) {
  call("POST", "/containers/web/kill?signal=TERM");
  call("POST", "/containers/web/rename?name=/new");
  call("POST", "/containers/web/resize?h=33&w=99");
  EXPECT_EQ(call("POST", "/containers/web/resize?h=33").status, 400);
  EXPECT_EQ(call("POST", "/containers/web/rename").status, 400);
  call("GET", "/containers/web/top?ps_args=-o+pid");
  EXPECT_THAT(engine.calls, ElementsAre("kill TERM web", "rename new web", "resize 33x99 web", "top -o pid web"));
  auto update = call("POST", "/containers/web/update", R"({"Memory":1048576,"PidsLimit":0,"RestartPolicy":{"Name":""}})");
  EXPECT_EQ(update.status, 200);
  EXPECT_EQ(engine.updated.resources.memory_bytes, 1048576);
  EXPECT_FALSE(engine.updated.resources.pids_limit.has_value());
  EXPECT_FALSE(engine.updated.restart.has_value());
}

TEST(router, every_pattern_matches_itself_first) {
  for (const auto& route : all_routes()) {
    std::string path = replace_all(route.pattern, "{name}", "some/name");
    auto found = match(all_routes(), route.method, path);
    ASSERT_TRUE(found) << route.pattern;
    EXPECT_EQ(found->route->handle, route.handle) << route.method << " " << route.pattern << " is hidden by " << found->route->pattern;
  }
}

}  // namespace
}  // namespace caisson::api
