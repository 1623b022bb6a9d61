"""Personal numbers, in German and international forms, and what must stay readable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.records.masking import mask


@pytest.mark.parametrize(
    "text",
    [
        "mail me: max.mustermann@thi.de",
        "Schreib an erika+uni@stud.thi.example.de bitte",
        "m.muster (at) thi (dot) de",
        "max[at]thi[punkt]de",
    ],
)
def test_an_e_mail_address_is_masked(text: str) -> None:
    assert "[e-mail]" in mask(text) and "thi" not in mask(text)


@pytest.mark.parametrize(
    "iban",
    [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "de89 3704 0044 0532 0130 00",
        "AT61 1904 3002 3457 3201",
        "CH93 0076 2011 6238 5295 7",
        "GB29 NWBK 6016 1331 9268 19",
        "NL91ABNA0417164300",
        "FR14-2004-1010-0505-0001-3M02-606",
    ],
)
def test_an_iban_is_masked(iban: str) -> None:
    assert mask(f"Meine IBAN ist {iban}, danke") == "Meine IBAN ist [IBAN], danke"


@pytest.mark.parametrize(
    "number",
    [
        "+49 841 9348-0", "+49 (0)841 9348 1234", "0049 841 93480", "0841/9348-1234", "0841 9348 1234",
        "0176 12345678", "0176-1234-5678", "+4917612345678", "+1 212 555 0123", "+44 20 7946 0958", "+33 1 23 45 67 89",
        "0151.23456789", "(0841) 93481234",
    ],
)  # fmt: skip
def test_a_phone_number_is_masked(number: str) -> None:
    assert mask(f"Ruf {number} an.") == "Ruf [phone] an."


@pytest.mark.parametrize(
    "text",
    [
        "Tel. 93481234",
        "my phone number is 555 0123 99",
        "Telefonnummer: 9348 1234",
        "Handy 12345678",
        "Fax: 93-48-12-34",
    ],
)
def test_an_announced_number_is_a_phone_number(text: str) -> None:
    masked = mask(text)
    assert "[phone]" in masked and not any(c.isdigit() for c in masked)


@pytest.mark.parametrize(
    "text",
    [
        "Meine Matrikelnummer ist 00123456", "Matrikel-Nr.: 123456", "Matr.-Nr. 12345", "matriculation number 1234567",
        "My student ID is 12 345 678", "Mat.Nr. 123456", "Student number: 1234567",
        "ich bin 00123456 und komme nicht rein",
    ],
)  # fmt: skip
def test_a_matriculation_number_is_masked(text: str) -> None:
    masked = mask(text)
    assert "[matriculation]" in masked and not any(c.isdigit() for c in masked)


@pytest.mark.parametrize(
    "text",
    [
        "Wann ist die Rückmeldung 2026/27?",
        "Die Frist endet am 15.07.2026 um 12:00 Uhr.",
        "from 2026-10-01 to 2027-03-14",
        "Raum G203, 3. Stock, 210 ECTS, 5 ECTS je Modul",
        "Der Beitrag ist 72,00 €, zusammen 1.234.567,89 EUR",
        "§ 12 Abs. 3 APO, PLZ 85049 Ingolstadt",
        "IPv4 127.0.0.1 und Python 3.11.2",
        "Note 1,3 bei 60 von 90 Punkten",
        "01.10.2026 bis 14.03.2027",
    ],
)
def test_dates_amounts_and_rooms_stay(text: str) -> None:
    assert mask(text) == text


@given(st.text(max_size=300))
def test_any_text_can_be_masked_and_masking_it_twice_changes_nothing_that_is_masked(text: str) -> None:
    once = mask(text)
    assert mask(once).count("[IBAN]") >= once.count("[IBAN]")


def test_a_long_text_of_digits_takes_no_time() -> None:
    assert mask("0" * 100_000 + " 1 2 3" * 20_000 + "a." * 50_000)
