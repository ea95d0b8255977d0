"""`limen sign` and `limen verify`: signatures of packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from limen.packaging.signing.trust import Trust

Package = Annotated[Path, typer.Argument(metavar="PACKAGE", help="Package folder or archive.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("sign", short_help="Sign a package.")(sign)
    app.command("verify", short_help="Show who signed a package, and whether it has changed since.")(verify)


def sign(
    package: Package,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key on P-256, P-384 or P-521, PEM.")],
    certificates: Annotated[
        list[Path] | None,
        typer.Option("--cert", metavar="FILE", help="The key's certificate, then any intermediate certificates."),
    ] = None,
    passphrase: Annotated[
        str, typer.Option(metavar="REF", help="Source of the key's passphrase: env:NAME or file:/path.")
    ] = "",
) -> None:
    """Sign a package: its name and the SHA-256 of every file in it.

    The signature of a folder is `model.sig` in it, which `limen build` puts beside the archive; that of an archive is the file of
    the same name with `.sig`.
    """
    from limen.cli.words import CommandError, existing_package
    from limen.packaging.paths import signature_path
    from limen.packaging.signing.keys import private_key, public_half
    from limen.packaging.signing.signatures import content_of
    from limen.packaging.signing.signatures import sign as sign_content
    from limen.settings.values import read_secret
    from limen.storage.files import appearing

    content = content_of(existing_package(package))
    opener = read_secret(passphrase, "--passphrase").encode() if passphrase else None
    try:
        pem = key.read_bytes()
    except OSError as exc:
        raise CommandError(f"--key: cannot read {key}: {exc.strerror}", "Give a private key file.") from exc
    opened = private_key(pem, opener)
    signature = sign_content(content, opened, [path.read_bytes() for path in certificates or ()])
    target = signature_path(package)
    with appearing(target) as out:
        out.write(signature)
    typer.echo(f"{target}\nsigner {public_half(opened)}")


def verify(
    package: Package,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="Public key of a signer, or certificate of an authority (PEM)."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Use the keys that the settings trust.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file; defaults to ./limen.toml.")
    ] = None,
) -> None:
    """Say who signed a package; fails unless the signature is genuine, of a trusted key, and of exactly these files."""
    from limen.cli.words import CommandError, counted, existing_package
    from limen.packaging.archive.package import read_signature
    from limen.packaging.signing.signatures import content_of

    if not keys and not trust:
        raise CommandError("no trusted key was given", "Give --key FILE or --trust.")
    content = content_of(existing_package(package))
    judgement = _trust(keys or [], config, from_settings=trust).judge(content, read_signature(package))
    typer.echo(f"{package}: {content.name}, {counted(len(content.files), 'file')}\nsigner {judgement.signer}")


def _trust(keys: list[Path], config: Path | None, *, from_settings: bool) -> Trust:
    from limen.packaging.signing.config import TrustConfig
    from limen.packaging.signing.trust import Trust
    from limen.settings import load_settings

    said = load_settings(config).trust if from_settings else TrustConfig()
    required = TrustConfig(signatures="required", keys=said.keys, revoked=said.revoked, code=said.code)
    return Trust.of(required, [str(key) for key in keys])
