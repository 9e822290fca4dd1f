"""Secrets are known by their names and by how they look, and what only sounds like one is let through."""

from __future__ import annotations

import pytest

from hqclip.known_secrets import (
    has_password,
    is_said_secret,
    is_secret,
    secret_arguments,
    without_password,
    without_secrets,
    without_user,
)

SECRETS = [
    "HF_TOKEN=abc",
    "AWS_SECRET_ACCESS_KEY=x1",
    "OPENAI_API_KEY=k",
    "db_password=p",
    "PGPASSWORD=hunter2",
    "MYSQL_PWD=hunter2",
    "WANDB_APIKEY=w",
    "ANY=hf_aBcDeFgHiJkLmNoPq",
    "ANY=AKIAIOSFODNN7EXAMPLE",
    "ANY=-----BEGIN RSA PRIVATE KEY-----",
    "X=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "DB_PASSWORD=12345678",
    "DB_PASSWORD=1234",
    "HTTPS_PROXY=http://user:hunter2secret@proxy:3128",
    "X=http://user:p@ss@proxy:3128",
    "X=redis://:pw@h",
    "DATABASE_URL=postgres://user:hunter2secret@db/x",
    "X=https://hooks.slack.com/services/T000/B000/abcdef",
    "X=AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "X=ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "X=sk-proj-abc_DEF1234567890",
    "X=sk-ant-api03-Abcdefghijklmno1",
    "API_TOKEN=123456789",
    "KAGGLE_KEY=0123456789abcdef0123456789abcdef",
    "COMET_KEY=Ab1Cd2Ef3Gh4Ij5Kl6",
    "SOME_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYabcd=",
    "SESSION_COOKIE=session=abc",
    "X=--extra-url https://u:tok@pypi/simple",
    "clientSecret=abc",
]
HARMLESS = [
    "MAX_TOKENS=512",
    "TOKENIZERS_PARALLELISM=false",
    "KEY_COLUMN=url",
    "PASSWORD_FILE=/x",
    "NCCL_SOCKET_IFNAME=eth0",
    "NCCL_IB_HCA==mlx5_0:1,mlx5_1:1",
    "X=s3://bucket/key",
    "GIT_SHA=6084f51aaaabbbbccccddddeeeeffff000011112",
    "CACHE_KEY=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "IMG=r.e/x@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "X=docker://r.e:5000/x:22.04@sha256:9f86",
    "X=docker://ubuntu:22.04@sha256:9f86",
    "X=https://a.b/c?d=e@f:g",
    "X=http://proxy:3128",
    "NO_PROXY=localhost,127.0.0.1,.svc,10.0.0.0/8",
    "X=ssh://git@host/x",
    "X=git@github.com:a/b",
    "IMAGE_TOKEN=<image>",
    "PAD_TOKEN=[PAD]",
    "EOS_TOKEN=<|endoftext|>",
    "MAX_TOKEN=131072",
    "PAD_TOKEN=pad",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
    "HF_TOKEN=",
    "HF_TOKEN_PATH=/x/y",
    "OPENAI_API_KEY=EMPTY",
    "X=sk-no-key-required",
    "X=s3://pools/sk-fashion-pool-2024/00000.tar",
    "X=/mnt/sk-en-2024-shards-part1",
    "X=sk-learn-classifier-model-name",
    "SORT_KEY=name",
    "PARTITION_KEY=20240101T000000Z",
    "IMAGE_KEY=jpg;png;webp",
    "DATASET_KEY=laion2bcaptions2024",
    "GOOGLE_APPLICATION_CREDENTIALS=/key/key.json",
    "AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/token",
    "AWS_SHARED_CREDENTIALS_FILE=/x",
    "AWS_ENDPOINT_URL=https://s3.example:8333",
    "PWD=/x",
    "OLDPWD=/y",
    "KMS_KEY=projects/p1/locations/us/keyRings/R/cryptoKeys/K9",
    "KMS_KEY=alias/my-key",
    "KMS_KEY=arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "SSH_KEY_PATH=/x",
    "KEY=value",
    "PUBLIC_KEY=ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ",
    "DATABASE_URL=postgres://u:$(DB_PASSWORD)@db/x",
    "DATABASE_URL=postgres://u:${DB_PASSWORD}@db/x",
    "X=postgres://db/x",
    'X={"url":"http://h1","mail":"x@y"}',
    "X=hf_hub_transfer",
    "X=hf-hub:timm/ViT-B-16",
    "HF_HUB_ENABLE_HF_TRANSFER=1",
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
    "TOKENIZER=openai/clip",
    "USE_PASSWORD=1",
    "KEEP_ALIVE=1",
    "MONKEY=banana123",
    "BROKER=x",
    "HQCLIP_NODE=0",
    "JAX_KEY=threefry2x32",
    "TOKEN_URL=https://auth/x",
    "X=eyJhbGciOiJIUzI1NiJ9",
    "DEPOT_KEY=ab:cd",
]


@pytest.mark.parametrize("item", SECRETS)
def test_a_variable_with_a_secret_is_known(item: str):
    name, _, value = item.partition("=")
    assert is_secret(name, value)


@pytest.mark.parametrize("item", HARMLESS)
def test_a_variable_that_only_sounds_so_is_none(item: str):
    name, _, value = item.partition("=")
    assert not is_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        *(("token", "abc", True), ("x/apiToken", "s3cret", True), ("note", "hf_abcdefghijklmnop", True)),
        *(("Authorization", "Basic bWU6cHc=", True), ("client-secret", "Xy1Zw2Ab3Cd4Ef5Gh6", True)),
        *(("hqclip/key", "jobs/x.json", False), ("hqclip/store", "gs://b/x", False), ("owner", "jane", False)),
        *(("example.com/auth-secret", "ns/basic-auth", False), ("secretKey", "secret_key", False)),
        *(("example.com/inject-token", "true", False), ("topologyKey", "kubernetes.io/hostname", False)),
        ("example.com/token-expiration", "86400", False),
    ],
)
def test_annotations_and_labels_may_name_the_secrets_of_a_cluster(name: str, value: str, secret: bool):
    assert is_said_secret(name, value) is secret


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--password=hunter2"], ["--password"]),
        (["--token", "abcdef"], ["--token"]),
        (["--api-key", "12345678ab"], ["--api-key"]),
        (["sh", "-c", "export DB_PASSWORD=hunter2; run --token 'a b'"], ["DB_PASSWORD", "--token"]),
        (["curl", "-H", "Authorization: Bearer abcdefghijk"], [""]),
        (["git", "clone", "https://me:pw@h/x"], [""]),
        (["--token", "hf_abcdefghijklmnop"], ["--token"]),
        (["run", "--max-tokens", "512", "--key=2", "--tokenizer", "openai/x", "--token-file", "/x"], []),
        (["sh", "-c", 'TOKEN=$(cat /x); curl --password-stdin --token "$T" -H "Authorization: Bearer $TOKEN"'], []),
        (["python", "-c", "import os; token=os.environ['T']; API_KEY=os.getenv('X')"], []),
        (["--image-pull-secret", "registry", "--auth-secret=ns/basic", "--use-password", "--verbose"], []),
        (["--api-key", "EMPTY", "--add-special-token", "<image>"], []),
    ],
)
def test_a_command_line_is_read_for_values_that_are_said(words: list[str], names: list[str]):
    assert list(secret_arguments(words)) == names


def test_an_address_is_shown_without_its_password():
    address = "http://me:p@ss:w@host:80/x?a=b@c:d"
    assert has_password(address)
    assert without_password(address) == "http://me:***@host:80/x?a=b@c:d"
    assert without_user(address) == "http://host:80/x?a=b@c:d"
    assert without_secrets(f"see {address} and docker-pullable://nginx:1@sha256:01") == (
        "see http://***@host:80/x?a=b@c:d and docker-pullable://nginx:1@sha256:01"
    )
