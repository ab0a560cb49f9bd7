"""Git repositories for builds: work trees, and bare copies of them that a server hands out."""

import os
import shutil
import subprocess

import caisson


class GitRepositories:
    """For a test class, which sets the three folders."""

    works = None     # work trees by name
    bares = None     # NAME.git
    git_home = None  # whose git configuration counts

    @classmethod
    def git(cls, folder, *arguments):
        environment = {"PATH": os.environ["PATH"], "HOME": cls.git_home, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
        return subprocess.run(["git", "-C", folder, *arguments], env=environment, check=True, capture_output=True, text=True).stdout.strip()

    @classmethod
    def repository(cls, name, files):
        """Its work tree. `files`: path → text, or (text, mode)."""
        folder = os.path.join(cls.works, name)
        os.makedirs(folder)
        cls.git(folder, "init", "-q", "-b", "main")
        caisson.write_files(folder, files)
        cls.commit(folder)
        cls.publish(name)
        return folder

    @classmethod
    def commit(cls, folder):
        cls.git(folder, "add", "-A")
        cls.git(folder, "commit", "-q", "-m", "x")

    @classmethod
    def publish(cls, name):
        bare = os.path.join(cls.bares, name + ".git")
        shutil.rmtree(bare, ignore_errors=True)
        cls.git(cls.bares, "clone", "-q", "--bare", os.path.join(cls.works, name), bare)
        cls.git(bare, "update-server-info")  # for servers that only give files
