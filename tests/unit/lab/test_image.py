import os

import yaml

from lab import apt, image

FILES = image.HERE / "files"


def test_image_has_nothing_of_kubernetes_or_salt():
    names = " ".join(apt.read_packages(image.PACKAGES))
    assert not any(word in names for word in ("kube", "salt", "containerd", "runc", "etcd"))


def test_cloud_init_settings():
    settings = yaml.safe_load((FILES / "etc/cloud/cloud.cfg.d/50-lab.cfg").read_text())
    assert settings["datasource_list"] == ["ConfigDrive", "OpenStack", "None"]
    assert settings["system_info"]["network"]["renderers"] == ["networkd"]
    assert settings["apt"] == {"preserve_sources_list": True}
    user = settings["system_info"]["default_user"]
    assert (user["name"], user["lock_passwd"]) == ("debian", True)
    assert not settings["ssh_pwauth"]
    modules = [name for key, names in settings.items() if key.endswith("_modules") for name in names]
    assert {"users-groups", "ssh", "set_hostname", "runcmd", "scripts-user", "write-files"} <= set(modules)
    assert len(modules) == len(set(modules))


def test_masked_files_are_below_etc_and_not_ours():
    paths = [line for line in (image.HERE / "masked.list").read_text().splitlines() if not line.startswith("#")]
    assert {path.split("/")[0] for path in paths} == {"systemd", "sysctl.d"}
    assert not [path for path in paths if (FILES / "etc" / path).exists()]


def test_customize_can_be_run():
    assert os.access(image.HERE / "customize", os.X_OK)
