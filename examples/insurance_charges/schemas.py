"""The input and output schemas of the example model.

The fields are exactly those of the article's model (see THIRD_PARTY_NOTICES).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field


class SexEnum(StrEnum):
    """The sexes in the insurance table."""

    male = "male"
    female = "female"


class RegionEnum(StrEnum):
    """The four regions of the United States in the insurance table."""

    southwest = "southwest"
    southeast = "southeast"
    northwest = "northwest"
    northeast = "northeast"


class InsuranceChargesModelInput(BaseModel):
    """Schema for input of the model's predict method."""

    age: int = Field(title="Age", ge=18, le=65, description="Age of primary beneficiary in years.")
    sex: SexEnum = Field(title="Sex", description="Gender of beneficiary.")
    bmi: float = Field(
        title="Body Mass Index",
        ge=15.0,
        le=50.0,
        description="Body mass index of beneficiary.",
    )
    children: int = Field(
        title="Children",
        ge=0,
        le=5,
        description="Number of children covered by health insurance.",
    )
    smoker: bool = Field(title="Smoker", description="Whether beneficiary is a smoker.")
    region: RegionEnum = Field(title="Region", description="Region where beneficiary lives.")


class InsuranceChargesModelOutput(BaseModel):
    """Schema for output of the model's predict method."""

    charges: float = Field(
        title="Charges", description="Charges billed to the insurance, in US dollars, to the cent."
    )
