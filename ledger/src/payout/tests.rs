use super::*;

#[test]
fn ibans_of_the_registry_are_taken_and_mistyped_ones_are_not() {
    let check = |text: &str, expected: Result<&str, IbanError>| {
        assert_eq!(text.parse::<Iban>().map(|iban| iban.to_string()), expected.map(str::to_owned), "{text}");
    };
    // The examples of the registry.
    check("DE89 3704 0044 0532 0130 00", Ok("DE89370400440532013000"));
    check("gb29nwbk60161331926819", Ok("GB29NWBK60161331926819"));
    check("MT84MALT011000012345MTLCAST001S", Ok("MT84MALT011000012345MTLCAST001S"));
    check("NO9386011117947", Ok("NO9386011117947"));
    check("DE89370400440532013001", Err(IbanError::Check("DE89370400440532013001".to_owned())));
    check("DE98370400440532013000", Err(IbanError::Check("DE98370400440532013000".to_owned())));
    // Its check digits are 02, which 99 is the same number as; 97 the same as 00.
    check("DE02370400440532000016", Ok("DE02370400440532000016"));
    check("DE99370400440532000016", Err(IbanError::Check("DE99370400440532000016".to_owned())));
    check("DE00370400440532000052", Err(IbanError::Check("DE00370400440532000052".to_owned())));
    let short = IbanError::Length { country: "DE".to_owned(), expected: 22, found: 21 };
    check("DE8937040044053201300", Err(short));
    check("US64SVBKUS6S3300958879", Err(IbanError::Country("US".to_owned())));
    for odd in ["", "DE", "DE89", "89DE370400440532013000", "DE89-3704", "DE8937040044053201300\u{e9}"] {
        check(odd, Err(IbanError::Form(odd.to_owned())));
    }
}

#[test]
fn names_are_what_every_bank_takes() {
    let iban: Iban = "DE89370400440532013000".parse().unwrap();
    let check = |name: &str, expected: Result<&str, PartyError>| {
        let party = Party::new(name, iban.clone());
        assert_eq!(party.as_ref().map(Party::name).map_err(Clone::clone), expected, "{name}");
    };
    check(" Ada O'Brien (office) ", Ok("Ada O'Brien (office)"));
    check("", Err(PartyError::NameLength));
    check(&"a".repeat(NAME_CHARS_MAX + 1), Err(PartyError::NameLength));
    assert!(Party::new(&"a".repeat(NAME_CHARS_MAX), iban.clone()).is_ok());
    check("Zo\u{eb}", Err(PartyError::NameCharacter('\u{eb}')));
    check("<b>", Err(PartyError::NameCharacter('<')));
    assert_eq!("cobadeffxxx".parse::<Bic>().unwrap().as_str(), "COBADEFFXXX");
    assert!("COBADE".parse::<Bic>().is_err() && "COBA12FF".parse::<Bic>().is_err());
}

#[test]
fn only_what_the_currency_has_decimals_for_is_paid() {
    let check = |code: &str, available: &str, expected: &str| {
        let currency = Currency::new(code, None).unwrap();
        assert_eq!(payable(available.parse().unwrap(), currency).to_string(), expected, "{code} {available}");
    };
    check("EUR", "12.349999999999", "12.34");
    check("EUR", "0.009999", "0");
    check("EUR", "0.01", "0.01");
    check("EUR", "999999999.99", "999999999.99");
    check("EUR", "1000000000", "999999999.99");
    check("JPY", "12.999999999999", "12");
    check("JPY", "1000000000", "999999999");
    check("BHD", "12.34999", "12.349");
    assert_eq!(PAYOUT_MAX.to_string(), "999999999.99");
}
