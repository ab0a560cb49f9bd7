#!/usr/bin/env python3
"""Tools that provision through Docker: packer's docker builder, and Ansible's community.docker modules with the docker connection."""

import json
import os
import shutil

import clients


class Packer(clients.ClientTest):
    @classmethod
    def needs(cls):
        return None if shutil.which("packer") else "needs packer: tools/dependencies clients"

    def test_a_container_is_provisioned_committed_and_tagged(self):
        folder = self.scratch()
        template = {
            "builders": [{"type": "docker", "image": "busybox", "pull": False, "commit": True, "changes": ["ENV MADE=packer", "ENTRYPOINT [\"cat\"]", "CMD [\"/made\"]"],
                          "run_command": ["-d", "-i", "-t", "--entrypoint=/bin/sh", "--", "{{.Image}}"]}],
            "provisioners": [{"type": "shell", "inline": ["echo provisioned > /made"], "remote_folder": "/tmp"},
                             {"type": "file", "source": os.path.join(folder, "payload"), "destination": "/payload"}],
            "post-processors": [{"type": "docker-tag", "repository": "packed", "tag": ["1"]}]}
        with open(os.path.join(folder, "payload"), "w", encoding="utf-8") as file:
            file.write("carried\n")
        with open(os.path.join(folder, "template.json"), "w", encoding="utf-8") as file:
            json.dump(template, file)
        self.command("packer", "build", "template.json", cwd=folder, check=0, timeout=300, environment={"CHECKPOINT_DISABLE": "1", "PACKER_CONFIG_DIR": folder})
        self.assertEqual(self.docker("run", "--rm", "packed:1").stdout, "provisioned\n")
        self.assertEqual(self.docker("run", "--rm", "--entrypoint", "sh", "packed:1", "-c", "cat /payload; echo $MADE").stdout, "carried\npacker\n")
        self.assertEqual(self.docker("ps", "-aq").stdout, "")


PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - community.docker.docker_network: {name: play-net}
    - community.docker.docker_volume: {name: play-vol}
    - name: the container is there
      community.docker.docker_container:
        name: play
        image: busybox
        pull: false
        command: ["httpd", "-f", "-p", "80", "-h", "/data"]
        env: {COLOUR: blue}
        networks: [{name: play-net, aliases: [files]}]
        networks_cli_compatible: true
        volumes: ["play-vol:/data"]
        memory: 64m
        labels: {a: b}
      register: first
    - name: the same again changes nothing
      community.docker.docker_container:
        name: play
        image: busybox
        pull: false
        command: ["httpd", "-f", "-p", "80", "-h", "/data"]
        env: {COLOUR: blue}
        networks: [{name: play-net, aliases: [files]}]
        networks_cli_compatible: true
        volumes: ["play-vol:/data"]
        memory: 64m
        labels: {a: b}
      register: second
    - ansible.builtin.assert: {that: ["first is changed", "second is not changed"]}
    - community.docker.docker_container_exec: {container: play, argv: ["sh", "-c", "echo page > /data/index.html; echo $COLOUR"]}
      register: executed
    - ansible.builtin.assert: {that: ["executed.stdout == 'blue'", "executed.rc == 0"]}
    - community.docker.docker_container: {name: client, image: busybox, pull: false, command: ["wget", "-qO-", "http://files/"], networks: [{name: play-net}], networks_cli_compatible: true, detach: false}
      register: fetched
    - ansible.builtin.assert: {that: ["fetched.container.Output == 'page\\n' or 'page' in fetched.container.Output"]}
    - community.docker.docker_container_info: {name: play}
      register: info
    - ansible.builtin.assert: {that: ["info.container.State.Running", "info.container.HostConfig.Memory == 67108864"]}
    - community.docker.docker_host_info: {containers: true, images: true, networks: true, volumes: true, disk_usage: true}
    - community.docker.docker_image: {name: busybox, repository: "play:tagged", source: local, push: false}
    - community.docker.docker_image: {name: "play:tagged", state: absent}
    - community.docker.docker_container: {name: "{{ item }}", state: absent}
      loop: [play, client]
    - community.docker.docker_network: {name: play-net, state: absent}
    - community.docker.docker_volume: {name: play-vol, state: absent}
    - community.docker.docker_prune: {containers: true, networks: true}
"""


class Ansible(clients.ClientTest):
    @classmethod
    def needs(cls):
        return None if shutil.which("ansible-playbook") else "needs ansible: tools/dependencies clients"

    def test_modules_make_use_and_remove_everything(self):
        folder = self.scratch()
        with open(os.path.join(folder, "play.yml"), "w", encoding="utf-8") as file:
            file.write(PLAYBOOK)
        settings = {"ANSIBLE_LOCALHOST_WARNING": "False", "ANSIBLE_HOME": folder, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
                    "LC_ALL": "C.UTF-8"}
        run = self.command("ansible-playbook", "-i", "localhost,", "play.yml", cwd=folder, timeout=500, environment=settings)
        self.assertEqual(run.returncode, 0, run.stdout[-4000:] + run.stderr[-2000:])
        self.assertEqual(self.docker("ps", "-aq").stdout, "")


if __name__ == "__main__":
    clients.main()
