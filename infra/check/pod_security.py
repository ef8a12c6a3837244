"""The restricted Pod Security Standard, as the version that the namespace pins defines it for Linux pods.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, with what the baseline asks for.
"""

from collections.abc import Iterator

from infra.check.manifests import Manifest, containers

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECCOMP = {"RuntimeDefault", "Localhost"}
APPARMOR = {None, "RuntimeDefault", "Localhost"}
SELINUX_TYPES = {None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}


def restricted_findings(pod: Manifest) -> Iterator[str]:
    """What the restricted standard refuses in a pod's spec, one sentence each."""
    outer = pod.get("securityContext") or {}
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} must not be set"
    for volume in pod.get("volumes", []):
        for source in sorted(set(volume) - {"name"} - VOLUMES):
            yield f"volume {volume['name']}: {source} is not among the allowed types"
    for sysctl in outer.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']} is not among the allowed ones"
    yield from _context_findings("the pod", outer)
    for container in containers(pod):
        yield from _container_findings(container, outer)


def _container_findings(container: Manifest, outer: Manifest) -> Iterator[str]:
    name, inner = f"container {container['name']}", container.get("securityContext") or {}
    yield from _context_findings(name, inner)
    if inner.get("privileged"):
        yield f"{name}: privileged must not be set"
    if inner.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation must be false"
    if inner.get("procMount", "Default") != "Default":
        yield f"{name}: procMount must be Default"
    if inner.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
        yield f"{name}: runAsNonRoot must be true, here or on the pod"
    if not inner.get("seccompProfile", outer.get("seccompProfile")):
        yield f"{name}: seccompProfile must be RuntimeDefault or Localhost, here or on the pod"
    capabilities = inner.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities must drop ALL"
    for capability in capabilities.get("add", []):
        if capability != "NET_BIND_SERVICE":
            yield f"{name}: capability {capability} must not be added"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{name}: hostPort {port['hostPort']} must not be set"
    probes = (container.get(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    hooks = (container.get("lifecycle") or {}).values()
    for handler in filter(None, (*probes, *hooks)):
        for action in ("httpGet", "tcpSocket"):
            if (handler.get(action) or {}).get("host"):
                yield f"{name}: {action}.host must not be set in a probe or hook"


def _context_findings(where: str, context: Manifest) -> Iterator[str]:
    """What holds for the security context of a pod and of a container alike."""
    if context.get("runAsUser") == 0:
        yield f"{where}: runAsUser must not be 0"
    if context.get("runAsNonRoot") is False:
        yield f"{where}: runAsNonRoot must not be false"
    seccomp = (context.get("seccompProfile") or {"type": "RuntimeDefault"}).get("type")
    if seccomp not in SECCOMP:
        yield f"{where}: seccompProfile must be RuntimeDefault or Localhost, got {seccomp}"
    if (context.get("appArmorProfile") or {}).get("type") not in APPARMOR:
        yield f"{where}: appArmorProfile must be RuntimeDefault or Localhost"
    options = context.get("seLinuxOptions") or {}
    if options.get("type") not in SELINUX_TYPES or options.get("user") or options.get("role"):
        yield f"{where}: seLinuxOptions may set a container type alone"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield f"{where}: hostProcess must not be set"
