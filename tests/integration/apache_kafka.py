"""One Apache Kafka broker (KRaft) from Maven Central, for tests that the embedded broker cannot serve.

The embedded broker keeps its log in memory, so killing it loses everything; a real one has it on disk.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType

from rank_processes import free_port

VERSION = "4.1.2"
CACHE = (
    Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / f"infoplane/kafka-{VERSION}"
)
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>infoplane</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>2.25.1</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId>
      <version>2.25.1</version></dependency>
  </dependencies>
</project>
"""
# After SIGKILL a broker refuses its own registration until the old session ends: hence the short one.
PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


def why_not() -> str:
    """Return why the broker cannot be had here; empty if it can. Fetches it (43 MB) the first time."""
    if shutil.which("java") is None:
        return "java is not installed"
    if (CACHE / "complete").exists():
        return ""
    if shutil.which("mvn") is None:
        return "mvn is not installed"
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "pom.xml").write_text(POM)
    command = [
        "mvn", "-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime",
        f"-DoutputDirectory={CACHE / 'lib'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True, timeout=300)
    if done.returncode:
        return f"Maven: {(done.stdout + done.stderr)[-500:]}"
    (CACHE / "complete").touch()
    return ""


class ApacheKafka:
    """A broker with its log in `directory`; it survives kill and start again with all it holds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        (directory / "log4j2.properties").write_text("rootLogger.level=error\n")
        (directory / "server.properties").write_text(
            PROPERTIES.format(port=self.port, controller=free_port(), data=directory / "data")
        )
        cluster = uuid.uuid4().hex[:22]
        format_log = ("format", "-t", cluster, "-c", "server.properties", "--standalone")
        self._java("kafka.tools.StorageTool", *format_log).wait(60)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> ApacheKafka:
        """Start and wait until the broker answers a client."""
        from kafka import KafkaConsumer

        self._process = self._java("kafka.Kafka", "server.properties")
        deadline = time.monotonic() + 60
        while True:
            if self._process.poll() is not None:
                raise RuntimeError((self._directory / "broker.log").read_text()[-3000:])
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, api_version=(2, 1))
                consumer.topics()
                consumer.close()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return self

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> ApacheKafka:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [
            "java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC",
            "-Dlog4j2.configurationFile=log4j2.properties", "-cp", f"{CACHE}/lib/*", *arguments,
        ]  # fmt: skip
        with (self._directory / "broker.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self._directory, stdout=log, stderr=log, start_new_session=True
            )
