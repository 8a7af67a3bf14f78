FROM postgres:17

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/patroni \
    && /opt/patroni/bin/pip install --no-cache-dir 'patroni[etcd3,psycopg3]==4.1.5'

COPY patroni.yml /etc/patroni.yml

# the user postgres of the base image
USER 999:999
EXPOSE 5432 8008
ENTRYPOINT ["/opt/patroni/bin/patroni", "/etc/patroni.yml"]
