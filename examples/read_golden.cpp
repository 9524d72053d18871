// Compares what an engine dumped with a golden, both as raw numbers: docs/golden.md, "In any language".
//
//     python -m qwen_ref golden export why.safetensors --out why
//     g++ -std=c++17 -O2 -o read_golden read_golden.cpp
//     ./read_golden why DUMP bfloat16       # or float64, float32, float16, int8: what may explain an error
//
// The engine's tensors are files DUMP/NAME.f32: little-endian floats of all rows, or of the last ones, the last
// dimension fastest. Exit status: 0 right, 1 wrong, 2 cannot be used, 3 partly judged (no logits).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

template <class T> std::vector<T> read(const std::string &path) {  // none if there is no such file
    std::ifstream file(path, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), {}};
    std::vector<T> numbers(bytes.size() / sizeof(T));
    const std::uint16_t one = 1;
    if (!*reinterpret_cast<const char *>(&one))  // this machine is big-endian, the file is not
        for (auto at = bytes.begin(); bytes.end() - at >= long(sizeof(T)); at += sizeof(T))
            std::reverse(at, at + sizeof(T));
    std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(T));
    return numbers;
}

int main(int argc, char **argv) {
    if (argc != 4) return std::cerr << "usage: read_golden GOLDEN DUMP ARITHMETIC\n", 2;
    const std::string golden = argv[1], dump = argv[2], arithmetic = argv[3];
    std::ifstream index(golden + "/" + arithmetic + ".txt");
    if (!index) return std::cerr << golden << "/" << arithmetic << ".txt: cannot be read\n", 2;
    std::string line, name, wrong;
    int given = 0, tensors = 0, logits = 0;
    for (; std::getline(index, line); ++tensors) {
        std::istringstream fields(line);
        long rows, columns, stride, row;
        double rms_budget, max_budget, squares = 0, most = 0, share = INFINITY;
        fields >> name >> rows >> columns >> stride >> rms_budget >> max_budget;  // then the rows that are kept
        const auto exact = read<double>(golden + "/tensors/" + name + ".f64");
        const auto found = read<float>(dump + "/" + name + ".f32");
        if (found.empty() || exact.empty()) continue;
        ++given, logits += name == "logits";
        const long missing = rows - long(found.size()) / columns;  // before the first row of the file
        if (found.size() % columns == 0 && missing >= 0) {
            for (auto x = exact.begin(); fields >> row;)
                for (long column = 0; column < columns; column += stride, ++x) {
                    const double error = row < missing ? 0 : found[(row - missing) * columns + column] - *x;
                    squares += error * error, most = std::max(most, std::abs(error));
                }
            share = std::max(std::sqrt(squares / exact.size()) / rms_budget, most / max_budget);
        }
        if (!(share <= 1) && wrong.empty()) wrong = name + ", " + std::to_string(share) + " times its budget";
    }
    std::cout << (!wrong.empty() ? "wrong: " + wrong : logits ? "right" : "partly judged") << " (" << given
              << " of " << tensors << " tensors were compared)\n";
    return !wrong.empty() ? 1 : given == 0 ? 2 : logits ? 0 : 3;
}
