FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /app

COPY requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt

COPY exporter exporter
COPY wsgi.py gunicorn.conf.py deploy/healthcheck.py ./
# Make the files readable for any user, whatever the umask of the build.
RUN python -m compileall -q . && chmod -R a+rX .

USER 65532:65532
EXPOSE 9547 9877
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s \
    CMD ["python", "healthcheck.py", "/proc/1/cmdline"]
ENTRYPOINT ["python", "-m", "exporter"]
