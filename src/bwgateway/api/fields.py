"""Types of fields that bodies share. Byte strings are lower-case hex, amounts decimal strings in wei."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


def hex_field(size: int) -> Any:
    """A field of `size` bytes."""
    return Field(pattern=f"^[0-9a-f]{{{2 * size}}}$", min_length=2 * size, max_length=2 * size, examples=["5a" * size])


Hex8 = Annotated[str, hex_field(8)]
Hex16 = Annotated[str, hex_field(16)]
Hex32 = Annotated[str, hex_field(32)]
Hex64 = Annotated[str, hex_field(64)]
Hex65 = Annotated[str, hex_field(65)]
Address = Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$", examples=["0x" + "5a" * 20])]
Wei = Annotated[str, Field(pattern="^[0-9]{1,78}$", examples=["100000000000000000000"])]
Time = Annotated[int, Field(ge=0, le=2**40, description="unix seconds", examples=[1_780_000_000])]
Region = Annotated[int, Field(ge=1, le=65535, examples=[1])]
Units = Annotated[int, Field(ge=1, le=1024, examples=[1024])]
MOST = 4096


class Body(BaseModel):
    """A request: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")
